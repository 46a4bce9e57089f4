"""Every error this package raises.

ProganError
├── ArgumentError (and ValueError)   an argument is wrong; nothing was sent
├── ClientClosedError                the client was closed before the call
├── ReplyError                       the reply is invalid: a fault of the service
└── ServiceError                     the call failed with .code; codes without a class below raise ServiceError itself
    ├── InvalidArgumentError             INVALID_ARGUMENT      .field_violations names the field
    ├── NotFoundError                    NOT_FOUND             no such model or version
    ├── FailedPreconditionError          FAILED_PRECONDITION   the model does not support the request
    ├── ResourceExhaustedError           RESOURCE_EXHAUSTED    busy, or quota used up; retry after .retry_after_s
    ├── MessageTooLargeError             RESOURCE_EXHAUSTED    request or reply above the size limit; do not retry
    ├── UnavailableError                 UNAVAILABLE           unreachable or not ready; retry
    ├── DeadlineExceededError            DEADLINE_EXCEEDED     no reply before the deadline
    ├── UnauthenticatedError             UNAUTHENTICATED       token or certificate missing or wrong
    ├── PermissionDeniedError            PERMISSION_DENIED     not allowed
    └── InternalError                    INTERNAL              a fault of the service; the message has the id in its log
"""

from dataclasses import dataclass

import grpc


class ProganError(Exception):
    """Base class of all errors of this package."""


class ArgumentError(ProganError, ValueError):
    """An argument is wrong; nothing was sent.

    `argument`  its name, with the position of the wrong element.
    `rule`      what the value must be.
    `value`     the value given.
    """

    def __init__(self, argument: str, rule: str, value: object) -> None:
        super().__init__(argument, rule, value)  # all three, so that the error can be pickled
        self.argument = argument
        self.rule = rule
        self.value = value

    def __str__(self) -> str:
        return f"{self.argument}: {self.rule}; got {self.value!r}"


class ClientClosedError(ProganError):
    """The client was closed before the call."""


class ReplyError(ProganError):
    """The reply of the service is invalid."""


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request that the service refused, and the reason."""

    field: str
    description: str


class ServiceError(ProganError):
    """The call failed; `str()` returns one sentence.

    `code`              the gRPC status code.
    `reason`            google.rpc.ErrorInfo.reason in UPPER_SNAKE; empty if gRPC or a proxy raised the error.
    `field_violations`  the fields of google.rpc.BadRequest.
    `retry_after_s`     seconds to wait before a retry (google.rpc.RetryInfo); None if the service named none.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.field_violations = field_violations
        self.retry_after_s = retry_after_s


class InvalidArgumentError(ServiceError):
    """The request is malformed or out of range; do not retry."""


class NotFoundError(ServiceError):
    """The service has no such model or version; do not retry."""


class FailedPreconditionError(ServiceError):
    """The model does not support the request, for example because it has no labels; do not retry."""


class ResourceExhaustedError(ServiceError):
    """The service is busy, cannot reply before the deadline, or the quota of the token is used up.

    Retry after `retry_after_s`. For the quota `reason` is "QUOTA_EXCEEDED".
    """


class MessageTooLargeError(ServiceError):
    """The request or the reply is larger than a message may be; do not retry."""


class UnavailableError(ServiceError):
    """The service is unreachable, starting or draining, or its model is not ready; retry."""


class DeadlineExceededError(ServiceError):
    """The reply did not arrive before the deadline."""


class UnauthenticatedError(ServiceError):
    """The token or certificate is missing or wrong."""


class PermissionDeniedError(ServiceError):
    """The service knows the caller and does not allow the call: the token is for other models."""


class InternalError(ServiceError):
    """The service has a fault; the message has the id in its log."""


ERROR_OF_CODE: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.INTERNAL: InternalError,
}
