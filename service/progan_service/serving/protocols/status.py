"""Errors as google.rpc.Status: a code, a sentence and details."""

from google.protobuf import any_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from progan_service.serving.errors import InvalidArgument, ServingError

ERROR_DOMAIN = "progan"


def status_of(error: ServingError) -> status_pb2.Status:
    """Return the google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=str(error))
    for detail in _details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


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
