"""What is known of a call, whatever its protocol; the states of its life; and its line in the log."""

import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from progan_service.serving.life import follow
from progan_service.serving.rights import ALL_RIGHTS, Rights
from progan_service.serving.watching.logs import requests_log

REQUEST_ID = "x-request-id"  # callers may send this header, and get it back
UNKNOWN_METHOD = "other"  # the name of all methods that this server does not have

_MAX_ID = 64  # characters
_DEADLINE_SLACK_S = 0.05  # a call that is cancelled so shortly before its deadline ran out of time


class State(Enum):
    """Where a call is in its life."""

    RECEIVED = "received"  # nothing is checked yet
    RUNNING = "running"  # it is allowed, its message could be read
    ANSWERED = "answered"  # to its last image
    REFUSED = "refused"  # its caller has to change something, or to come back later
    FAILED = "failed"  # a fault of the server
    CANCELLED = "cancelled"  # by its caller
    EXPIRED = "expired"  # its deadline passed


_ENDS = {State.REFUSED, State.FAILED, State.CANCELLED, State.EXPIRED}

TRANSITIONS: dict[State, set[State]] = {
    State.RECEIVED: {State.RUNNING, *_ENDS},
    State.RUNNING: {State.ANSWERED, *_ENDS},
    State.ANSWERED: set(),
    **{end: set() for end in _ENDS},
}

_END_OF = {
    "OK": State.ANSWERED,
    "INTERNAL": State.FAILED,
    "CANCELLED": State.CANCELLED,
    "DEADLINE_EXCEEDED": State.EXPIRED,
}  # by the name of the status code; every other code is a refusal


@dataclass
class Call:
    """What is known of a call, filled in as it becomes known. It holds nothing of what the call carries.

    Used in the event loop only.

    deadline, began       in seconds of time.monotonic(); infinity without a deadline
    protocol, service     such as "grpc" and "progan.v1.ImageGeneratorService"; no service if the method is unknown
    caller, rights        the name of its token, and what that allows
    peer                  its address
    request_id            the id that it was given, or, if id_was_sent, that came in its headers
    model, version        once they are known to exist
    format, images        what has been sent so far
    queue_s               the longest time that one of its images waited for a batch
    inference_s, encode_s total time of its batches, and of encoding
    code, reason, error   how it ended, as in the reply to its caller
    incident              the id of the log entry about a fault of the server
    span, trace_id        of OpenTelemetry, when calls are traced
    """

    method: str
    deadline: float = float("inf")
    began: float = 0.0
    protocol: str = ""
    service: str = ""
    caller: str = ""
    rights: Rights = ALL_RIGHTS
    peer: str = ""
    request_id: str = ""
    id_was_sent: bool = False
    model: str = ""
    version: int = 0
    format: str = ""
    images: int = 0
    queue_s: float = 0.0
    inference_s: float = 0.0
    encode_s: float = 0.0
    state: State = State.RECEIVED
    code: str = ""
    reason: str = ""
    error: str = ""
    incident: str = ""
    span: Any = None
    trace_id: str = ""

    @property
    def owner(self) -> str:
        """Return who shares limits with whom: the name of the token, else the address without its port."""
        return self.caller or self.peer.rpartition(":")[0]

    @property
    def exemplar(self) -> dict[str, str] | None:
        """Return what leads from a metric to the trace of the call, if it has one."""
        return {"trace_id": self.trace_id} if self.trace_id else None

    def take_id(self, sent: str) -> None:
        """Take an id out of the request itself, unless the headers had one."""
        if not self.id_was_sent:
            self.request_id = usable_id(sent) or self.request_id

    def run(self) -> None:
        """Note that it is allowed and could be read."""
        self.state = follow(TRANSITIONS, self.state, State.RUNNING)

    def end(self, code: str, reason: str = "", error: str = "") -> None:
        """Note how it ended."""
        self.state = follow(TRANSITIONS, self.state, _END_OF.get(code, State.REFUSED))
        self.code, self.reason, self.error = code, reason, error


def ran_out_of_time(deadline: float) -> bool:
    """Return whether a call that is cancelled now was cancelled because of its deadline.

    Protocols end late calls themselves, shortly before the server would.
    """
    return deadline - time.monotonic() < _DEADLINE_SLACK_S


def sent_id(headers: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the id that a caller sent in a header, or ''."""
    sent = next((value for key, value in headers if key == REQUEST_ID), "")
    return usable_id(sent) if isinstance(sent, str) else ""


def usable_id(sent: str) -> str:
    """Return an id that a caller sent, cut to 64 characters; '' if it is not printable ASCII."""
    return sent[:_MAX_ID] if sent.isascii() and sent.isprintable() and sent.strip() else ""


def new_id() -> str:
    return f"{random.getrandbits(64):016x}"


def log_call(call: Call, duration_s: float) -> None:
    """Log one line about a call that has ended."""
    if not requests_log.isEnabledFor(logging.INFO):
        return
    images = "image" if call.images == 1 else "images"
    made = f": {call.images} {call.format} {images} of {call.model} version {call.version}" if call.images else ""
    message = f"{call.method} {call.code}{made} in {duration_s * 1000:.1f} ms"
    fields = {
        "method": call.method,
        "code": call.code,
        "reason": call.reason,
        "error": call.error,
        "incident": call.incident,
        "model": call.model,
        "version": call.version,
        "images": call.images,
        "format": call.format,
        "duration_ms": round(duration_s * 1000, 3),
        "queue_ms": round(call.queue_s * 1000, 3),
        "inference_ms": round(call.inference_s * 1000, 3),
        "encode_ms": round(call.encode_s * 1000, 3),
        "caller": call.caller,
        "peer": call.peer,
        "request_id": call.request_id,
        "trace_id": call.trace_id,
    }
    known = {name: value for name, value in fields.items() if value}
    requests_log.info("%s: %s" if call.error else "%s%s", message, call.error, extra={"fields": known})
