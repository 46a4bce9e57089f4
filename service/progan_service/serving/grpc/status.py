"""Errors as gRPC sends them: a status with google.rpc details, and trailers."""

from math import ceil
from typing import Any

import grpc
from google.protobuf import any_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from progan_service.serving.errors import InvalidArgument, ServingError

ERROR_DOMAIN = "progan"

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str | bytes], ...]


def refuse(context: Context, error: ServingError, *metadata: tuple[str, str | bytes]) -> None:
    """Let a call end with this error, once its handler returns. `metadata` goes with it."""
    context.set_code(getattr(grpc.StatusCode, error.code))
    context.set_details(str(error))
    context.set_trailing_metadata((*metadata, *trailers(error)))


def status_of(error: ServingError) -> status_pb2.Status:
    """Return the google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=str(error))
    for detail in _details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def trailers(error: ServingError) -> Metadata:
    """Return the trailing metadata of a call that ends with this error."""
    details = ("grpc-status-details-bin", status_of(error).SerializeToString())
    if error.retry_after_s is not None:  # gRPC clients do not act on RetryInfo alone
        return details, ("grpc-retry-pushback-ms", str(max(1, ceil(error.retry_after_s * 1000))))
    return (details,)


def _details(error: ServingError) -> list[message.Message]:
    details: list[message.Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)]
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.argument, description=error.description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(retry)
    return details
