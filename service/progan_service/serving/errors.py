"""What can go wrong for a caller, as the wire tells it.

ServingError
├── InvalidArgument        INVALID_ARGUMENT      the request breaks a rule; names the field
├── ModelNotFound          NOT_FOUND             no such model or version
├── FailedPrecondition     FAILED_PRECONDITION   the model cannot do this
├── QueueFull              RESOURCE_EXHAUSTED    no room for the request's rows; come back later
├── Unavailable            UNAVAILABLE           starting, draining, or the model is not ready
├── DeadlineExceeded       DEADLINE_EXCEEDED     the deadline passed before the work began
├── Unauthenticated        UNAUTHENTICATED       no token, or one that this server does not know
└── InternalError          INTERNAL              a fault of the server
"""


class ServingError(Exception):
    """An error with a gRPC status code name and a machine-readable reason (google.rpc.ErrorInfo)."""

    code: str
    reason: str


class InvalidArgument(ServingError):
    """`field` is the path of the offending field in the request message."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message


class ModelNotFound(ServingError):
    code = "NOT_FOUND"
    reason = "MODEL_NOT_FOUND"


class FailedPrecondition(ServingError):
    code = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class QueueFull(ServingError):
    """Nothing of the request was queued; `retry_after_s` is when there may be room again."""

    code = "RESOURCE_EXHAUSTED"
    reason = "QUEUE_FULL"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ServingError):
    code = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class DeadlineExceeded(ServingError):
    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Unauthenticated(ServingError):
    """Its sentence never repeats what the caller sent."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class InternalError(ServingError):
    """Says nothing of the fault but the id under which the log has it."""

    code = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, incident: str) -> None:
        super().__init__(f"internal error; the server's log has it under id {incident}")
