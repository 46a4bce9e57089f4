"""What is known of a call, and the line of the log about it."""

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from progan_service.serving.watching.logs import requests_log

REQUEST_ID = "x-request-id"  # metadata: a caller may send one, and gets it back

_MAX_ID = 64  # characters


@dataclass
class Call:
    """What an rpc knows of its call, filled in as it becomes known; nothing of what the call carries.

    deadline              of time.monotonic(); infinity without one
    model, version        once they are known to exist
    format, images        what was sent so far
    queue_s               the longest wait of an image for its batch
    inference_s, encode_s of its batches and its encoding, in all
    caller                the name of its token
    peer, request_id      where it comes from, what it is called
    code, reason, error   how it ends, as the caller is told
    incident              under which the log has a fault of ours
    span, trace_id        of OpenTelemetry, when calls are traced
    """

    method: str
    deadline: float
    model: str = ""
    version: int = 0
    format: str = ""
    images: int = 0
    queue_s: float = 0.0
    inference_s: float = 0.0
    encode_s: float = 0.0
    caller: str = ""
    peer: str = ""
    request_id: str = ""
    code: str = "OK"
    reason: str = ""
    error: str = ""
    incident: str = ""
    span: Any = None
    trace_id: str = ""


def request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The one that a caller sent, cut short; or else a new one."""
    sent = next((value for key, value in metadata if key == REQUEST_ID), "")
    usable = isinstance(sent, str) and sent.isascii() and sent.isprintable() and sent.strip()
    return str(sent[:_MAX_ID]) if usable else f"{random.getrandbits(64):016x}"


def tell(call: Call, duration_s: float) -> None:
    """Log one line about a call that has ended."""
    if not requests_log.isEnabledFor(logging.INFO):
        return
    made = f": {call.images} {call.format} images of {call.model} version {call.version}" if call.images else ""
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
    told = {name: value for name, value in fields.items() if value}
    requests_log.info("%s: %s" if call.error else "%s%s", message, call.error, extra={"fields": told})
