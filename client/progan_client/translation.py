"""Translate what gRPC raises into the errors of this package, in the words of its callers. No network here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from progan_client.channel import Settings
from progan_client.errors import (
    ERROR_OF_CODE,
    ClientClosedError,
    DeadlineExceededError,
    FieldViolation,
    MessageTooLargeError,
    ServiceError,
)

# What gRPC says, without the service, of a connection that broke, a name that no server knows, a message above a limit.
_LOST = re.compile(r"Stream removed|Socket closed|recvmsg|sendmsg|Connection reset|Broken pipe|GOAWAY")
_UNKNOWN_HOST = re.compile(r"errors resolving|DNS resolution failed")
_TOO_LARGE = re.compile(r"(Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")

# Fields of requests, and the arguments that fill them.
_ARGUMENTS = {
    "latents": "the call",
    "latents.vectors": "latents",
    "latents.seeds": "seeds",
    "latents.seed_range": "count",
    "key_frames": "key frames",
    "label_names": "label",
    "key_frames.vectors": "latents",
    "key_frames.seeds": "seeds",
    "model.name": "model",
    "model.version_label": "version",
    "format.encoding": "encoding",
    "format.quality": "quality",
    "priority": "bulk",
    "edits.direction": "edits",
    "edits.offset": "edits",
    "edits.set": "sets",
    "edits.hold": "hold",
}
_PLACE = re.compile(r"(?<=^edits)\[\d+\]")  # of an edit: those of the client have names
_WORDS = {"StreamGenerate": "client.stream", "a seed_range": "a count"}


@contextmanager
def translated(settings: Settings, timeout_s: float) -> Iterator[None]:
    """Translate the exceptions of gRPC, with and without asyncio, into those of this package. Nothing else does."""
    try:
        yield
    except grpc.RpcError as error:
        raise service_error(error, settings, timeout_s) from None  # gRPC's own is many lines and says no more
    except (grpc.aio.UsageError, ValueError) as error:
        if "closed" not in str(error):  # gRPC has no class for this
            raise
        raise ClientClosedError(f"the client of {settings.target} is closed; create a new one") from None


def service_error(error: grpc.RpcError, settings: Settings, timeout_s: float) -> ServiceError:
    """Translate one exception of gRPC."""
    code, text = error.code(), error.details() or ""
    info, bad_request, retry = _details(error)
    kind = MessageTooLargeError if _TOO_LARGE.search(text) else ERROR_OF_CODE.get(code, ServiceError)
    # With a reason, the sentence is from the service and readable. Without one, it is from gRPC.
    from_service = info.reason and _in_words_of_arguments(text, bad_request)
    return kind(
        _of_token(code, settings) or from_service or _sentence(code, text, settings.target, timeout_s),
        code=code,
        reason=info.reason,
        field_violations=tuple(FieldViolation(item.field, item.description) for item in bad_request.field_violations),
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )


def never_connected(error: BaseException | None) -> bool:
    """Return whether an exception of gRPC says that no server could be reached."""
    return isinstance(error, grpc.RpcError) and "; last error: " in (error.details() or "")


def not_ready(target: str, obstacle: str) -> str:
    """Return the sentence for a service that takes no calls. `obstacle`: what keeps the client from connecting."""
    return f"no ready ProGAN service at {target}: {obstacle or 'is it running, and is the address right?'}"


def not_ready_in_time(target: str, timeout_s: float, obstacle: str) -> DeadlineExceededError:
    """Return the error for a service that was not ready in time."""
    return DeadlineExceededError(
        not_ready(f"{target} within {timeout_s:g} s", obstacle), code=grpc.StatusCode.DEADLINE_EXCEEDED
    )


def _of_token(code: grpc.StatusCode, settings: Settings) -> str:
    if code is not grpc.StatusCode.UNAUTHENTICATED:
        return ""
    if settings.token:
        return f"{settings.target} does not know the token; check token=..."
    return f"{settings.target} needs a token; give token=..."


def _in_words_of_arguments(text: str, bad_request: error_details_pb2.BadRequest) -> str:
    """Name the argument instead of the field that it fills."""
    for violation in bad_request.field_violations:
        text = text.replace(f"{violation.field}: ", f"{_argument(violation.field)} ", 1)
    for word, plain in _WORDS.items():
        text = text.replace(word, plain)
    return text


def _argument(field: str) -> str:
    """("latents.vectors.columns") -> "latents: number of columns", ("latents.seeds.seeds") -> "seeds:"."""
    field = _PLACE.sub("", field)
    known = next((name for name in (field, field.rpartition(".")[0]) if name in _ARGUMENTS), field)
    argument = _ARGUMENTS.get(known, known.removesuffix(".columns").removesuffix(".values"))
    if field.endswith(".columns"):
        return f"{argument}: number of columns"
    return argument if argument == "the call" else f"{argument}:"


def _sentence(code: grpc.StatusCode, text: str, target: str, timeout_s: float) -> str:
    """Return a readable sentence for an error of gRPC itself."""
    if too_large := _TOO_LARGE.search(text):
        return _size_sentence(text, int(too_large[2]), int(too_large[3]))
    match code:
        case grpc.StatusCode.UNAVAILABLE if _LOST.match(text):
            return f"lost the connection to {target} ({text})"
        case grpc.StatusCode.UNAVAILABLE if _UNKNOWN_HOST.match(text):
            return not_ready(target, "no such host; check the address")
        case grpc.StatusCode.UNAVAILABLE:
            return f"{not_ready(target, '')} ({text})"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} sent no complete reply within {timeout_s:g} s"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"{target} is not a ProGAN service, or one of another release ({text})"
    return f"{target} answered {code.name}: {text}"


def _size_sentence(text: str, given: int, most: int) -> str:
    of_request = ("Sent" in text) == ("SERVER" not in text)
    if of_request:
        return f"the request has {given} bytes, and a message at most {most}; give fewer images in a call"
    return f"the reply has {given} bytes, and a message at most {most}; use client.stream"


def _details(
    error: grpc.RpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    """Return the google.rpc messages of the trailer `grpc-status-details-bin`; missing ones are empty."""
    found = (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo())
    trailers: Any = error.trailing_metadata() or ()  # pairs, with asyncio a mapping
    try:
        status = status_pb2.Status.FromString(dict(trailers).get("grpc-status-details-bin", b""))
        for detail in status.details:
            for message in found:
                detail.Unpack(message)
    except DecodeError:  # the trailer of a proxy; the status code is enough
        pass
    return found
