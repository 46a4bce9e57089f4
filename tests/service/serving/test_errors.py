"""The errors that a caller gets, and how gRPC sends them."""

import grpc
import pytest
from google.protobuf import message
from google.rpc import error_details_pb2

from progan_service.serving import errors
from progan_service.serving.errors import ServingError
from progan_service.serving.protocols.status import status_of

ONE_OF_EACH = [
    errors.InvalidArgument("latents.vectors", "is empty"),
    errors.ModelNotFound("no model 'cats'"),
    errors.FailedPrecondition("this model has no labels"),
    errors.QueueFull("no room for 3 images", retry_after_s=0.25),
    errors.QuotaExceeded("alice", 50, 200, retry_after_s=0.25),
    errors.Unavailable("still loading"),
    errors.DeadlineExceeded("too late"),
    errors.ReaderStalled("took nothing"),
    errors.Unauthenticated("no token"),
    errors.PermissionDenied("not this model"),
    errors.UnknownMethod(),
    errors.Unsupported("no shared memory"),
    errors.InternalError("0123abcd"),
]


def detail(error: ServingError, kind: type[message.Message]) -> message.Message | None:
    """The google.rpc detail of a kind, if the error has one."""
    for packed in status_of(error).details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


def test_there_is_one_of_each_here() -> None:
    assert {type(error) for error in ONE_OF_EACH} == set(ServingError.__subclasses__())


def test_every_status_code_of_the_contract_has_one_class() -> None:
    assert [error.code for error in ONE_OF_EACH] == [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "RESOURCE_EXHAUSTED",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "UNIMPLEMENTED",
        "UNIMPLEMENTED",
        "INTERNAL",
    ]


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_every_error_has_a_grpc_code_and_a_reason_in_the_domain(error: ServingError) -> None:
    assert status_of(error).code == grpc.StatusCode[error.code].value[0]
    info = detail(error, error_details_pb2.ErrorInfo)
    assert info == error_details_pb2.ErrorInfo(reason=error.reason, domain="progan")
    assert error.reason == error.reason.upper()


def test_an_invalid_argument_names_its_field_in_text_and_details() -> None:
    error = errors.InvalidArgument("latents.vectors", "is empty")
    assert str(error) == "latents.vectors: is empty"
    violation = error_details_pb2.BadRequest.FieldViolation(field="latents.vectors", description="is empty")
    assert detail(error, error_details_pb2.BadRequest) == error_details_pb2.BadRequest(field_violations=[violation])


def test_a_full_queue_tells_when_to_come_back() -> None:
    retry = detail(errors.QueueFull("no room", retry_after_s=0.25), error_details_pb2.RetryInfo)
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 250


def test_a_full_queue_and_a_used_up_quota_tell_when_to_come_back() -> None:
    with_retry = [type(e).__name__ for e in ONE_OF_EACH if detail(e, error_details_pb2.RetryInfo)]
    assert with_retry == ["QueueFull", "QuotaExceeded"]


def test_an_internal_error_says_nothing_but_the_id_of_its_log_entry() -> None:
    assert str(errors.InternalError("0123abcd")) == "internal error; the server's log has it under id 0123abcd"


def test_a_long_message_is_cut_so_that_it_fits_the_trailers() -> None:
    text = status_of(errors.ModelNotFound("no model " + "x" * 10_000)).message
    assert len(text) == 300
    assert text.endswith("x ...")
