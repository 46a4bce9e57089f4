"""Every error this package raises.

ProganError
├── ArgumentError (and ValueError)   an argument is wrong; nothing was sent
├── ClientClosedError                the client was closed before the call
├── ReplyError                       the reply is invalid: a fault of the service
└── ServiceError                     the call failed with .code; codes without a class below raise ServiceError itself
    ├── InvalidArgumentError             INVALID_ARGUMENT      .field_violations names the field
    ├── NotFoundError                    NOT_FOUND             no such model or version
    ├── FailedPreconditionError          FAILED_PRECONDITION   the model does not support the request
    ├── ResourceExhaustedError           RESOURCE_EXHAUSTED    busy; retry after .retry_after_s
    ├── UnavailableError                 UNAVAILABLE           unreachable or not ready; retry
    ├── DeadlineExceededError            DEADLINE_EXCEEDED     no reply before the deadline
    ├── UnauthenticatedError             UNAUTHENTICATED       token or certificate missing or wrong
    ├── PermissionDeniedError            PERMISSION_DENIED     not allowed
    └── InternalError                    INTERNAL              a fault of the service; the message has the id in its log
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

# How gRPC's sentence begins when a connection that was there breaks.
_LOST = re.compile(r"Stream removed|Socket closed|recvmsg|sendmsg|Connection reset|Broken pipe|GOAWAY")


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
    """The service is busy or cannot reply before the deadline; retry after `retry_after_s`."""


class UnavailableError(ServiceError):
    """The service is unreachable, starting or draining, or its model is not ready; retry."""


class DeadlineExceededError(ServiceError):
    """The reply did not arrive before the deadline."""


class UnauthenticatedError(ServiceError):
    """The token or certificate is missing or wrong."""


class PermissionDeniedError(ServiceError):
    """The service knows the caller and does not allow the call."""


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


@contextmanager
def translated(target: str, timeout_s: float) -> Iterator[None]:
    """Translate the exceptions of gRPC, with and without asyncio, into those of this package. Nothing else does."""
    try:
        yield
    except grpc.RpcError as error:
        raise service_error(error, target, timeout_s) from error
    except (grpc.aio.UsageError, ValueError) as error:
        if "closed" not in str(error):  # gRPC has no class for this
            raise
        raise ClientClosedError(f"the client of {target} is closed; create a new one") from error


def service_error(error: grpc.RpcError, target: str, timeout_s: float) -> ServiceError:
    """Translate one exception of gRPC."""
    code = error.code()
    info, bad_request, retry = _details(error)
    # With a reason, the sentence is from the service and readable. Without one, it is from gRPC.
    return ERROR_OF_CODE.get(code, ServiceError)(
        (info.reason and error.details()) or _sentence(error, target, timeout_s),
        code=code,
        reason=info.reason,
        field_violations=tuple(FieldViolation(item.field, item.description) for item in bad_request.field_violations),
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )


def not_ready_in_time(target: str, timeout_s: float) -> DeadlineExceededError:
    """Return the error for a service that was not ready in time."""
    return DeadlineExceededError(
        f"no ready ProGAN service at {target} within {timeout_s:g} s: is it running, and is the address right?",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
    )


def _sentence(error: grpc.RpcError, target: str, timeout_s: float) -> str:
    """Return a readable sentence for an error of gRPC itself."""
    if error.code() is grpc.StatusCode.UNAVAILABLE and _LOST.match(error.details() or ""):
        return f"lost the connection to {target} ({error.details()})"
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return f"no ready ProGAN service at {target}: is it running, and is the address right? ({error.details()})"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{target} sent no complete reply within {timeout_s:g} s"
    return f"{target} answered {error.code().name}: {error.details()}"


def _details(
    error: grpc.RpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    """Return the google.rpc messages of the trailer `grpc-status-details-bin`; missing ones are empty."""
    found = (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo())
    trailers: Any = error.trailing_metadata() or ()  # pairs, with asyncio a mapping
    try:
        status = status_pb2.Status.FromString(dict(trailers).get("grpc-status-details-bin", b""))
    except DecodeError:  # the trailer of a proxy; the status code is enough
        return found
    for detail in status.details:
        for message in found:
            detail.Unpack(message)
    return found
