"""Every error this package raises.

ProganError
├── ArgumentError (and ValueError)   an argument was wrong; nothing was sent
├── ClientClosedError                the client was closed before the call
├── ReplyError                       the service broke the contract; the fault is the service's
└── ServiceError                     the call failed; .code says how, any other code is a plain ServiceError
    ├── InvalidArgumentError             INVALID_ARGUMENT      .field_violations names the field
    ├── NotFoundError                    NOT_FOUND             no such model or version
    ├── FailedPreconditionError          FAILED_PRECONDITION   the model cannot do this
    ├── ResourceExhaustedError           RESOURCE_EXHAUSTED    busy; .retry_after_s says when to come back
    ├── UnavailableError                 UNAVAILABLE           not reachable or not ready; retry
    ├── DeadlineExceededError            DEADLINE_EXCEEDED     no answer in time
    ├── UnauthenticatedError             UNAUTHENTICATED       no token or certificate, or a wrong one
    ├── PermissionDeniedError            PERMISSION_DENIED     not allowed
    └── InternalError                    INTERNAL              a fault of the service; the message holds its log's id
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2


class ProganError(Exception):
    """Anything that can go wrong in a call to a ProGAN service."""


class ArgumentError(ProganError, ValueError):
    """An argument is out of its range; nothing was sent.

    `argument` is its name (with the position of the offending element), `rule` what it has to be, `value` what it was.
    """

    def __init__(self, argument: str, rule: str, value: object) -> None:
        super().__init__(argument, rule, value)  # all three are args, so that the error survives pickling
        self.argument = argument
        self.rule = rule
        self.value = value

    def __str__(self) -> str:
        return f"{self.argument}: {self.rule}; got {self.value!r}"


class ClientClosedError(ProganError):
    """The client was closed before the call."""


class ReplyError(ProganError):
    """The service's reply does not keep the contract, so it cannot be read."""


@dataclass(frozen=True)
class FieldViolation:
    """One field of the request that the service refused, and why."""

    field: str
    description: str


class ServiceError(ProganError):
    """The call failed; `str()` of it is one sentence for people.

    `code`              the gRPC status code.
    `reason`            google.rpc.ErrorInfo.reason, UPPER_SNAKE; empty when the answer is not from the service itself.
    `field_violations`  what google.rpc.BadRequest names.
    `retry_after_s`     seconds to wait before another try (google.rpc.RetryInfo), None when the service gave none.
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
    """The service refused the request as malformed or out of range; do not retry."""


class NotFoundError(ServiceError):
    """No such model or version; do not retry."""


class FailedPreconditionError(ServiceError):
    """The model cannot do this, it has no labels for instance; do not retry."""


class ResourceExhaustedError(ServiceError):
    """The service is busy, or cannot keep the deadline; retry after `retry_after_s`."""


class UnavailableError(ServiceError):
    """The service is not reachable, starting, draining, or its model is not ready; retry."""


class DeadlineExceededError(ServiceError):
    """The answer did not come within the deadline."""


class UnauthenticatedError(ServiceError):
    """No token or certificate, or a wrong one."""


class PermissionDeniedError(ServiceError):
    """The caller is known and not allowed."""


class InternalError(ServiceError):
    """A fault of the service; the message holds an id that is in its log."""


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
    """The one border where gRPC's exceptions become this package's; serves calls with and without asyncio."""
    try:
        yield
    except grpc.RpcError as error:
        raise service_error(error, target, timeout_s) from error
    except (grpc.aio.UsageError, ValueError) as error:
        if "closed" not in str(error):  # gRPC has no class of its own for this
            raise
        raise ClientClosedError(f"the client of {target} is closed; make a new one") from error


def service_error(error: grpc.RpcError, target: str, timeout_s: float) -> ServiceError:
    """The error of this package that says what `error` says."""
    code = error.code()
    info, bad_request, retry = _details(error)
    # With a reason the sentence is the service's own and made for people; without one it is gRPC's.
    return ERROR_OF_CODE.get(code, ServiceError)(
        (info.reason and error.details()) or _sentence(error, target, timeout_s),
        code=code,
        reason=info.reason,
        field_violations=tuple(FieldViolation(item.field, item.description) for item in bad_request.field_violations),
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )


def not_ready_in_time(target: str, timeout_s: float) -> DeadlineExceededError:
    """The error of waiting for a service in vain."""
    return DeadlineExceededError(
        f"no ready ProGAN service at {target} within {timeout_s:g} s: is it running, and is the address right?",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
    )


def _sentence(error: grpc.RpcError, target: str, timeout_s: float) -> str:
    """What to tell when the answer is gRPC's own, not the service's."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return f"no ready ProGAN service at {target}: is it running, and is the address right? ({error.details()})"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{target} gave no full answer within {timeout_s:g} s"
    return f"{target} answered {error.code().name}: {error.details()}"


def _details(
    error: grpc.RpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    """The google.rpc messages that travel in the trailer `grpc-status-details-bin`, empty where there are none."""
    found = (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo())
    trailers: Any = error.trailing_metadata() or ()  # pairs, or a mapping with asyncio
    try:
        status = status_pb2.Status.FromString(dict(trailers).get("grpc-status-details-bin", b""))
    except DecodeError:  # a proxy's trailer; the status code stands without it
        return found
    for detail in status.details:
        for message in found:
            detail.Unpack(message)
    return found
