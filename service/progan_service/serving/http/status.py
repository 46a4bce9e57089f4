"""Errors as HTTP says them: a status and headers."""

from math import ceil

from progan_service.serving.errors import InvalidArgument, ServingError

# Connect's table. TensorFlow Serving's REST API has the same where both have a code.
_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "CANCELLED": 499,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
}


class TooLarge(InvalidArgument):
    """The body has more bytes than can be of use."""

    def __init__(self, limit: int) -> None:
        super().__init__("request", f"has more than {limit} bytes, which is the most that is read here")


def http_status(error: ServingError) -> int:
    return 413 if isinstance(error, TooLarge) else _STATUS[error.code]


def error_headers(error: ServingError) -> dict[str, str]:
    """Return what a client needs to know beside the status: when to come back, or how to show who it is."""
    if error.retry_after_s is not None:
        return {"Retry-After": str(max(1, ceil(error.retry_after_s)))}
    return {"WWW-Authenticate": "Bearer"} if error.code == "UNAUTHENTICATED" else {}
