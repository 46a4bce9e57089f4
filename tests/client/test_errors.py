"""A gRPC status becomes one error with one sentence."""

import pickle

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import progan_client
from progan_client import ArgumentError, ProganError, ServiceError
from progan_client.channel import Settings
from progan_client.errors import ERROR_OF_CODE, FieldViolation, MessageTooLargeError
from progan_client.translation import service_error


def rpc_error(code: grpc.StatusCode, details: str, *messages: Message) -> grpc.aio.AioRpcError:
    """What gRPC raises for a status with these google.rpc messages."""
    status = status_pb2.Status(code=code.value[0], message=details)
    for message in messages:
        packed = any_pb2.Any()
        packed.Pack(message)
        status.details.append(packed)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString())) if messages else None
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers or grpc.aio.Metadata(), details)


THERE = Settings("there:1", 1.0, 1.0, None, "")


INFO = error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="progan")


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_code_has_its_error(code: grpc.StatusCode) -> None:
    error = service_error(rpc_error(code, "no luck", INFO), THERE, 30.0)
    assert type(error) is ERROR_OF_CODE.get(code, ServiceError)
    assert (error.code, error.reason) == (code, "QUEUE_FULL")
    if code is not grpc.StatusCode.UNAUTHENTICATED:
        assert str(error) == "no luck"


def test_every_error_has_one_code_and_is_public() -> None:
    assert len(set(ERROR_OF_CODE.values())) == len(ERROR_OF_CODE)
    assert set(ServiceError.__subclasses__()) == {*ERROR_OF_CODE.values(), MessageTooLargeError}
    assert all(kind.__name__ in progan_client.__all__ for kind in ERROR_OF_CODE.values())
    assert all(kind.__name__ in progan_client.__all__ for kind in ProganError.__subclasses__())


def test_refused_fields_are_named() -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="latents.vectors.columns", description="must be 128")
    bad_request = error_details_pb2.BadRequest(field_violations=[violation])
    error = service_error(rpc_error(grpc.StatusCode.INVALID_ARGUMENT, "bad", INFO, bad_request), THERE, 30.0)
    assert error.field_violations == (FieldViolation("latents.vectors.columns", "must be 128"),)
    assert error.retry_after_s is None


def test_a_busy_service_says_when_to_come_back() -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    error = service_error(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", INFO, retry), THERE, 30.0)
    assert error.retry_after_s == 1.5


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            grpc.StatusCode.UNAVAILABLE,
            "no ready ProGAN service at there:1: is it running, and is the address right? (why)",
        ),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "there:1 sent no complete reply within 2.5 s"),
        (grpc.StatusCode.UNIMPLEMENTED, "there:1 is not a ProGAN service, or one of another release (why)"),
        (grpc.StatusCode.DATA_LOSS, "there:1 answered DATA_LOSS: why"),
    ],
)
def test_errors_of_grpc_itself_are_readable_sentences(code: grpc.StatusCode, sentence: str) -> None:
    assert str(service_error(rpc_error(code, "why"), THERE, 2.5)) == sentence


UNREADABLE_DETAIL = status_pb2.Status(
    details=[any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")]
)


@pytest.mark.parametrize("trailer", [b"\xff\xff", UNREADABLE_DETAIL.SerializeToString()])
def test_a_trailer_that_cannot_be_read_leaves_the_status(trailer: bytes) -> None:
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", trailer))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailers, "gone")
    assert str(service_error(error, THERE, 1.0)) == "there:1 answered NOT_FOUND: gone"


def test_errors_survive_pickling() -> None:
    argument = pickle.loads(pickle.dumps(ArgumentError("count", "must be at least 1", 0)))
    assert (str(argument), argument.value) == ("count: must be at least 1; got 0", 0)
    service = pickle.loads(pickle.dumps(ServiceError("no", code=grpc.StatusCode.ABORTED, retry_after_s=2.0)))
    assert (str(service), service.code, service.retry_after_s) == ("no", grpc.StatusCode.ABORTED, 2.0)


def test_a_wrong_argument_is_a_value_error_too() -> None:
    assert issubclass(ArgumentError, ValueError)
