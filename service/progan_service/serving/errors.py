"""Errors that a caller gets, in words that no protocol owns. Each protocol maps them to its own statuses.

ServingError
├── InvalidArgument        INVALID_ARGUMENT      the request breaks a rule; names the argument
├── ModelNotFound          NOT_FOUND             no such model or version
├── FailedPrecondition     FAILED_PRECONDITION   the model cannot do this
├── QueueFull              RESOURCE_EXHAUSTED    no room for the request's rows; retry later
│   └── Unread             RESOURCE_EXHAUSTED    no room to read the request; retry later
├── QuotaExceeded          RESOURCE_EXHAUSTED    the caller has had its images; retry later
├── Unavailable            UNAVAILABLE           starting, draining, or the model is not ready
├── DeadlineExceeded       DEADLINE_EXCEEDED     the deadline passed before the work began
├── ReaderStalled          CANCELLED             the caller took nothing of its reply for too long
├── Unauthenticated        UNAUTHENTICATED       no token, or one that this server does not know
├── PermissionDenied       PERMISSION_DENIED     the token does not allow it
├── UnknownMethod          UNIMPLEMENTED         no such method
├── Unsupported            UNIMPLEMENTED         a part of the protocol that this server does not have
└── InternalError          INTERNAL              a fault of the server
"""

from collections.abc import Iterator
from contextlib import contextmanager

_MAX_TEXT = 300  # characters: messages quote callers' own words, and must fit a log line and 8 KiB of gRPC trailers


class ServingError(Exception):
    """An error with the name of a status code and a machine-readable reason. Long messages are cut.

    retry_after_s   when the same request may succeed, if that is known
    """

    code: str
    reason: str
    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(_clip(message))


class InvalidArgument(ServingError):
    """The request breaks a rule.

    argument      what breaks it. Jobs and models use plain words: rows, columns, values, latents, seeds, count,
                  key_frames, labels, quality, model, label. A protocol's parser replaces them by fields of its message.
    description   the value and the rule
    """

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"

    def __init__(self, argument: str, description: str) -> None:
        super().__init__(f"{argument}: {description}")
        self.argument = argument
        self.description = _clip(description)


@contextmanager
def naming(**arguments: str) -> Iterator[None]:
    """Within the block an InvalidArgument about one of these plain words becomes one about that of a protocol."""
    try:
        yield
    except InvalidArgument as error:
        argument = arguments.get(error.argument, error.argument)
        raise InvalidArgument(argument, error.description) from error


class ModelNotFound(ServingError):
    code = "NOT_FOUND"
    reason = "MODEL_NOT_FOUND"


class FailedPrecondition(ServingError):
    code = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class QueueFull(ServingError):
    """Nothing of the request was queued; there may be room again after `retry_after_s`."""

    code = "RESOURCE_EXHAUSTED"
    reason = "QUEUE_FULL"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unread(QueueFull):
    """The request was not even read."""


class QuotaExceeded(ServingError):
    """The caller has asked for more than its quota; there are enough images again after `retry_after_s`."""

    code = "RESOURCE_EXHAUSTED"
    reason = "QUOTA_EXCEEDED"

    def __init__(self, caller: str, images_per_s: float, images_at_once: int, retry_after_s: float) -> None:
        super().__init__(
            f"{caller!r} may have {images_per_s:g} images/s, {images_at_once} at once; "
            f"try again in {retry_after_s:.1f} s"
        )
        self.retry_after_s = retry_after_s


class Unavailable(ServingError):
    code = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class DeadlineExceeded(ServingError):
    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class ReaderStalled(ServingError):
    """The caller took nothing of its reply for too long. It hears CANCELLED alone: it does not read."""

    code = "CANCELLED"
    reason = "READER_STALLED"


class Unauthenticated(ServingError):
    """The message never repeats what the caller sent."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDenied(ServingError):
    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class UnknownMethod(ServingError):
    code = "UNIMPLEMENTED"
    reason = "UNKNOWN_METHOD"

    def __init__(self) -> None:
        super().__init__("this server has no such method")


class Unsupported(ServingError):
    code = "UNIMPLEMENTED"
    reason = "UNSUPPORTED"


class InternalError(ServingError):
    """The message contains nothing about the fault but the id of its log entry."""

    code = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, incident: str) -> None:
        super().__init__(f"internal error; the server's log has it under id {incident}")


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 4] + " ..."
