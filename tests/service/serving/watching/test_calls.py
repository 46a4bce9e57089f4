"""What the log tells of each call, and how a call is recognised."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.protocols.progan_v1.servicer import ImageGeneratorServicer
from progan_service.serving.server import Server
from progan_service.serving.watching.calls import Call, log_call, new_id, sent_id
from progan_service.serving.watching.refusals import Refusals

PATIENCE_S = 60
LOGGER = "progan_service.requests"
PNG = pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG)


class Logged:
    """The lines about calls, oldest first."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def records(self) -> list[Any]:
        return [record for record in self._caplog.records if record.name == LOGGER and "code" in record.fields]

    @property
    def fields(self) -> dict[str, Any]:
        """Of the only line."""
        [record] = self.records
        return dict(record.fields)

    @property
    def message(self) -> str:
        [record] = self.records
        return str(record.getMessage())


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, server: Server) -> Logged:
    server._metrics.refusals = Refusals()  # those of other tests in this second do not count
    caplog.set_level(logging.INFO, logger=LOGGER)
    return Logged(caplog)


@pytest.fixture
def tiny(server_target: str) -> Iterator[pb_grpc.ImageGeneratorServiceStub]:
    with grpc.insecure_channel(server_target) as channel:
        yield pb_grpc.ImageGeneratorServiceStub(channel)


def seeds(count: int) -> pb.Latents:
    return pb.Latents(seed_range=pb.SeedRange(first_seed=4242, count=count))


@contextmanager
def finished(logged: Logged) -> Iterator[None]:
    """A caller may have its answer before the server has logged it."""
    yield
    give_up = time.monotonic() + PATIENCE_S
    while not logged.records:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_a_call_is_one_line_with_what_was_made_and_how_long_it_took(
    tiny: pb_grpc.ImageGeneratorServiceStub, logged: Logged
) -> None:
    with finished(logged):
        tiny.Generate(pb.GenerateRequest(latents=seeds(3), format=PNG), timeout=PATIENCE_S)
    fields = logged.fields
    times = [fields.pop(name) for name in ("duration_ms", "queue_ms", "inference_ms", "encode_ms")]
    assert all(0 < ms < PATIENCE_S * 1000 for ms in times)
    assert times[0] == max(times)
    assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", fields.pop("peer"))
    assert re.fullmatch("[0-9a-f]{16}", fields.pop("request_id"))
    assert fields == {
        "method": "Generate",
        "code": "OK",
        "model": "tiny",
        "version": 1,
        "images": 3,
        "format": "PNG",
    }
    assert re.fullmatch(r"Generate OK: 3 PNG images of tiny version 1 in [\d.]+ ms", logged.message)


def test_a_stream_is_one_line_with_all_its_images(tiny: pb_grpc.ImageGeneratorServiceStub, logged: Logged) -> None:
    with finished(logged):
        list(tiny.StreamGenerate(pb.StreamGenerateRequest(latents=seeds(100)), timeout=PATIENCE_S))
    fields = logged.fields
    assert (fields["method"], fields["code"], fields["images"], fields["format"]) == (
        "StreamGenerate",
        "OK",
        100,
        "RAW",
    )


def test_a_refused_call_is_logged_with_the_reason_that_its_caller_got(
    tiny: pb_grpc.ImageGeneratorServiceStub, logged: Logged
) -> None:
    request = pb.GenerateRequest(latents=seeds(1), model=pb.ModelSelector(name="cats\n" * 1000))
    with finished(logged), pytest.raises(grpc.RpcError) as refused:
        tiny.Generate(request, timeout=PATIENCE_S)
    error: Any = refused.value
    fields = logged.fields
    assert (fields["code"], fields["reason"]) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert fields["error"] == error.details()
    assert len(fields["error"]) == 300
    assert "images" not in fields
    assert "\n" not in logged.message


def test_a_fault_of_ours_is_logged_with_the_id_that_its_caller_got(
    tiny: pb_grpc.ImageGeneratorServiceStub,
    logged: Logged,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: object, model: object) -> pb.Model:
        raise RuntimeError("a secret")

    monkeypatch.setattr(ImageGeneratorServicer, "_message", broken)
    with finished(logged), pytest.raises(grpc.RpcError) as refused:
        tiny.GetModel(pb.GetModelRequest(), metadata=[("x-request-id", "mine")], timeout=PATIENCE_S)
    error: Any = refused.value
    fields = logged.fields
    assert fields["code"] == "INTERNAL"
    assert error.details().endswith(fields["incident"])
    assert "a secret" not in str(fields)
    [trace] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(trace)["fields"] == {"incident": fields["incident"], "request_id": "mine"}


def test_a_caller_names_its_call_and_gets_the_name_back(
    tiny: pb_grpc.ImageGeneratorServiceStub, logged: Logged
) -> None:
    with finished(logged):
        _, call = tiny.ListModels.with_call(
            pb.ListModelsRequest(), metadata=[("x-request-id", "order 66")], timeout=PATIENCE_S
        )
    assert dict(call.trailing_metadata())["x-request-id"] == "order 66"
    assert logged.fields["request_id"] == "order 66"


def test_a_refused_call_gets_its_name_back_too(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        tiny.Generate(pb.GenerateRequest(), metadata=[("x-request-id", "mine")], timeout=PATIENCE_S)
    error: Any = refused.value
    assert dict(error.trailing_metadata())["x-request-id"] == "mine"


@pytest.mark.parametrize("sent", ["", "   ", "two\nlines", "\x1b[31m", b"bytes"])
def test_a_name_that_no_line_can_hold_is_replaced(sent: str | bytes) -> None:
    assert sent_id([("x-request-id", sent)]) == ""
    assert re.fullmatch("[0-9a-f]{16}", new_id())


def test_a_long_name_is_cut_and_without_any_each_call_gets_another() -> None:
    assert sent_id([("user-agent", "me"), ("x-request-id", "e" * 100)]) == "e" * 64
    assert new_id() != new_id()


def test_who_called_is_logged_and_what_is_not_known_is_left_out(logged: Logged) -> None:
    call = Call("Generate", caller="alice", peer="ipv4:1.2.3.4:5", request_id="7")
    call.end("CANCELLED")
    log_call(call, 0.0125)
    assert logged.fields == {
        "method": "Generate",
        "code": "CANCELLED",
        "duration_ms": 12.5,
        "caller": "alice",
        "peer": "ipv4:1.2.3.4:5",
        "request_id": "7",
    }
    assert logged.message == "Generate CANCELLED in 12.5 ms"
