"""Whatever comes in, and whatever goes wrong inside, what goes out is a status of the contract."""

import asyncio
import base64
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from any_message import any_message, put, torn, values_of
from google.protobuf import message, message_factory
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving import errors
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.grpc.border import Border
from progan_service.serving.grpc.connections import Callers
from progan_service.serving.grpc.receiving import Receiver
from progan_service.serving.grpc.sending import Sender
from progan_service.serving.models.gate import Gate
from progan_service.serving.protocols.service import Service
from progan_service.serving.server import Server
from progan_service.serving.watching.metrics import Metrics

SERVICE = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"]
METHODS = {method.name: method for method in SERVICE.methods}
PATIENCE_S = 60

Metadata = tuple[tuple[str, str | bytes], ...]

# What a caller may hear, whatever it sends; a fault of ours is not among it.
ANSWERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}


def error_info(error: Any) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed call, whose status details say the same as its status."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    [info] = [found for packed in status.details if packed.Unpack(found := error_details_pb2.ErrorInfo())]
    assert info.domain == "progan"
    return info


class Stranger:
    """A caller that keeps to no rule but gRPC's."""

    def __init__(self, server: Server) -> None:
        self.port = server.port
        self._http_port = server.http_port
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")

    def close(self) -> None:
        self._channel.close()

    def send(self, method: str, request: bytes, metadata: Metadata = ()) -> str:
        """The code of the answer; a stream is left after three messages."""
        error = self._error(method, request, metadata)
        if error is None:
            return "OK"
        assert error_info(error).reason
        code: str = error.code().name
        return code

    def _error(self, method: str, request: bytes, metadata: Metadata) -> Any:
        path = f"/{SERVICE.full_name}/{method}"
        try:
            if not METHODS[method].server_streaming:
                self._channel.unary_unary(path)(request, timeout=PATIENCE_S, metadata=metadata)
                return None
            replies = self._channel.unary_stream(path)(request, timeout=PATIENCE_S, metadata=metadata)
            for _, _ in zip(range(3), replies, strict=False):
                pass
            replies.cancel()
        except grpc.RpcError as error:
            return error
        return None

    def is_answered_well(self) -> bool:
        request = pb.GenerateRequest(latents=pb.Latents(seeds=pb.SeedList(seeds=[1337])))
        return self.send("Generate", request.SerializeToString()) == "OK"


@pytest.fixture(scope="module")
def stranger(
    tiny_store: Path,
    publish_puppet: Callable[..., int],
    run_server: Callable[[ServerConfig], AbstractContextManager[Server]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stranger]:
    """At a server with a real model, and one with labels."""
    store = tmp_path_factory.mktemp("strange")
    shutil.copytree(tiny_store / "tiny", store / "tiny")
    publish_puppet(store, "labelled", labels=2)
    batching = BatchingConfig(4, max_queued_rows=64)
    config = ServerConfig(store, model="tiny", port=0, http_port=0, lame_duck_s=0, max_images=12, batching=batching)
    with run_server(config) as server:
        caller = Stranger(server)
        yield caller
        caller.close()


# --- what a stranger may say ---

finite = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1e-45, 3.4e38, -3.4e38])
floats = st.floats(width=32)


@st.composite
def matrices(draw: st.DrawFn) -> pb.FloatMatrix:
    """Mostly of a size that some model takes, and as many bytes as it says."""
    rows = draw(st.integers(0, 4))
    columns = draw(st.sampled_from([2, 4, 16]))  # labels; latents of `labelled`; latents of `tiny`
    values = draw(st.lists(draw(st.sampled_from([finite, floats])), min_size=1, max_size=8))
    data = np.resize(np.array(values, "<f4"), rows * columns).tobytes()
    matrix = pb.FloatMatrix(rows=rows, columns=columns, values=data)
    return draw(st.just(matrix) | any_message(pb.FloatMatrix.DESCRIPTOR, {}))


names = st.sampled_from(["tiny", "labelled", "", "cats", "\N{CAT}" * 40_000, "../../etc", "a\0b"]) | st.text(
    max_size=20
)
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "progan.v1.FloatMatrix": st.deferred(matrices),
    "progan.v1.ModelSelector.name": names,
    "progan.v1.GetModelRequest.name": names,
}

LABELLED = pb.ModelSelector(name="labelled")
ONE_LABEL = pb.FloatMatrix(rows=1, columns=2, values=bytes(8))
THREE = pb.Latents(seed_range=pb.SeedRange(first_seed=2**64 - 1, count=3))
BLACK = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
GOOD: dict[str, message.Message] = {
    "Generate": pb.GenerateRequest(latents=THREE),
    "StreamGenerate": pb.StreamGenerateRequest(latents=THREE, model=LABELLED, labels=ONE_LABEL),
    "Interpolate": pb.InterpolateRequest(key_frames=THREE, frames_between=3),
    "Invert": pb.InvertRequest(pictures=[BLACK], max_evaluations=1),
    "ListModels": pb.ListModelsRequest(),
    "GetModel": pb.GetModelRequest(name="tiny"),
}


@st.composite
def any_request(draw: st.DrawFn) -> tuple[str, message.Message]:
    """A good request of which some fields have got any values; or one without a good word."""
    method = draw(st.sampled_from(sorted(METHODS)))
    kind = METHODS[method].input_type
    if draw(st.integers(0, 4)) == 0:
        return method, draw(any_message(kind, SPECIAL))
    request = message_factory.GetMessageClass(kind)()
    request.CopyFrom(GOOD[method])
    for field in draw(st.lists(st.sampled_from(list(kind.fields)), max_size=2)) if kind.fields else ():
        put(request, field, draw(values_of(field, SPECIAL)))
    return method, request


@st.composite
def torn_requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """Any bytes, or those of a request of which some are others, missing or twice."""
    method, request = draw(any_request())
    return method, draw(torn(request.SerializeToString()))


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)
lower = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=30).map("x-".__add__)
hostile_metadata = st.lists(
    st.tuples(lower.filter(lambda key: not key.endswith("-bin")), printable)
    | st.tuples(lower.map(lambda key: key + "-bin"), st.binary(max_size=300))
    | st.tuples(st.sampled_from(["x-request-id", "authorization", "traceparent", "tracestate"]), printable),
    max_size=15,
).map(tuple)


@settings(max_examples=150)
@given(torn_requests())
def test_bytes_of_any_kind_are_answered_by_the_contract(stranger: Stranger, said: tuple[str, bytes]) -> None:
    assert stranger.send(*said) in ANSWERS
    assert stranger.is_answered_well()


@settings(max_examples=150)
@given(any_request())
def test_messages_of_any_content_are_answered_by_the_contract(
    stranger: Stranger, said: tuple[str, message.Message]
) -> None:
    method, request = said
    assert stranger.send(method, request.SerializeToString()) in ANSWERS
    assert stranger.is_answered_well()


@settings(max_examples=100)
@given(hostile_metadata)
def test_metadata_of_any_kind_changes_no_answer(stranger: Stranger, metadata: Metadata) -> None:
    request = pb.GenerateRequest(latents=pb.Latents(seeds=pb.SeedList(seeds=[1337])))
    assert stranger.send("Generate", request.SerializeToString(), metadata) == "OK"
    assert stranger.send("Generate", b"", metadata) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_request_of_nothing_but_tags_of_groups_is_answered_by_the_contract(stranger: Stranger, method: str) -> None:
    assert stranger.send(method, b"\x0b" * 100_000) == "INVALID_ARGUMENT"  # a hundred thousand levels deep
    assert stranger.is_answered_well()


def test_a_million_seeds_where_twelve_are_allowed_are_an_invalid_argument(stranger: Stranger) -> None:
    request = pb.GenerateRequest(latents=pb.Latents(seeds=pb.SeedList(seeds=range(1_000_000))))
    assert stranger.send("Generate", request.SerializeToString()) == "INVALID_ARGUMENT"


def test_a_label_row_for_each_of_a_hundred_thousand_images_is_read(stranger: Stranger) -> None:
    rows = 100_000
    request = pb.StreamGenerateRequest(
        model=pb.ModelSelector(name="labelled"),
        latents=pb.Latents(seed_range=pb.SeedRange(count=rows)),
        labels=pb.FloatMatrix(rows=rows, columns=2, values=bytes(8 * rows)),
    )
    assert stranger.send("StreamGenerate", request.SerializeToString()) == "OK"
    request.labels.rows -= 1
    request.labels.values = request.labels.values[8:]
    assert stranger.send("StreamGenerate", request.SerializeToString()) == "INVALID_ARGUMENT"


@pytest.mark.soak
def test_twenty_thousand_strange_requests_leave_memory_where_it_was(stranger: Stranger) -> None:
    @settings(max_examples=2_000)
    @given(any_request(), torn_requests(), hostile_metadata)
    def ask(said: tuple[str, message.Message], torn: tuple[str, bytes], metadata: Metadata) -> None:
        assert stranger.send(said[0], said[1].SerializeToString(), metadata) in ANSWERS
        assert stranger.send(*torn) in ANSWERS

    ask()
    before = resident_bytes()
    for _ in range(4):
        ask()
    assert stranger.is_answered_well()
    assert resident_bytes() < before + 64 * 2**20


def resident_bytes() -> int:
    """Of this process, in which the server is, too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# --- whatever goes wrong inside ---


class Panic(BaseException):
    """As extension modules raise it."""


TOLD: list[tuple[BaseException, str, str]] = [
    (errors.InvalidArgument("latents", "is empty"), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    (errors.ModelNotFound("no model 'cats'"), "NOT_FOUND", "MODEL_NOT_FOUND"),
    (errors.FailedPrecondition("no labels"), "FAILED_PRECONDITION", "FAILED_PRECONDITION"),
    (errors.QueueFull("no room", 0.25), "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    (errors.QuotaExceeded("alice", 50, 200, 0.25), "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
    (errors.Unavailable("still loading"), "UNAVAILABLE", "UNAVAILABLE"),
    (errors.DeadlineExceeded("too late"), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    (errors.Unauthenticated("no token"), "UNAUTHENTICATED", "UNAUTHENTICATED"),
    (errors.PermissionDenied("not this model"), "PERMISSION_DENIED", "PERMISSION_DENIED"),
    (errors.UnknownMethod(), "UNIMPLEMENTED", "UNKNOWN_METHOD"),
    (errors.Unsupported("no shared memory"), "UNIMPLEMENTED", "UNSUPPORTED"),
    (errors.InternalError("0123abcd"), "INTERNAL", "INTERNAL"),
]
FOREIGN: list[BaseException] = [
    ValueError("secret"),
    MemoryError("secret"),
    OSError("secret"),
    TimeoutError("secret"),
    RecursionError("secret"),
    AssertionError("secret"),
    StopIteration("secret"),
    StopAsyncIteration("secret"),
    message.DecodeError("secret"),
    grpc.RpcError("secret"),
    asyncio.InvalidStateError("secret"),
    asyncio.CancelledError("secret"),  # of something that was waited for, not of the call
    ExceptionGroup("secret", [ValueError("secret")]),
    BaseExceptionGroup("secret", [asyncio.CancelledError("secret")]),
    Panic("secret"),
]


def test_every_error_of_the_tree_is_in_the_table() -> None:
    unheard = {errors.ReaderStalled}  # its caller does not read
    assert {type(error) for error, _, _ in TOLD} | unheard == set(errors.ServingError.__subclasses__())


class Clumsy:
    """Every rpc fails with `error`: at once, or, where `late` says so, after a first message of a stream."""

    def __init__(self, error: BaseException, late: bool = False) -> None:
        self._error = error
        self._late = late

    async def _fail(self, request: message.Message, call: object) -> message.Message:
        raise self._error

    async def _stream(self, request: message.Message, call: object) -> AsyncIterator[message.Message]:
        if self._late:
            yield pb.StreamGenerateResponse()
        raise self._error

    Generate = ListModels = GetModel = _fail
    StreamGenerate = Interpolate = Invert = _stream


@asynccontextmanager
async def served(servicer: object, metrics: Metrics) -> AsyncIterator[pb_grpc.ImageGeneratorServiceStub]:
    server = grpc.aio.server()
    handlers = Border(metrics, Gate(), Receiver(2**20), Sender(60, metrics), Callers()).handlers(
        Service(SERVICE, servicer)
    )
    server.add_registered_method_handlers(SERVICE.full_name, handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield pb_grpc.ImageGeneratorServiceStub(channel)
    await server.stop(grace=None)


async def failures(servicer: object, metrics: Metrics) -> dict[str, Any]:
    """What every rpc fails with."""
    caught = {}
    async with served(servicer, metrics) as stub:
        for name, method in METHODS.items():
            call = getattr(stub, name)(message_factory.GetMessageClass(method.input_type)(), timeout=PATIENCE_S)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                [_ async for _ in call] if method.server_streaming else await call
            caught[name] = error.value
    return caught


def named(value: object) -> str:
    return type(value).__name__ if isinstance(value, BaseException) else ""


def counted(metrics: Metrics, code: str) -> list[float | None]:
    labels = [{"method": method, "model": "", "code": code} for method in METHODS]
    return [metrics.registry.get_sample_value("progan_requests_total", label) for label in labels]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize(("error", "code", "reason"), TOLD, ids=named)
async def test_errors_of_ours_reach_the_caller_as_the_table_says(
    error: BaseException, code: str, reason: str, late: bool
) -> None:
    metrics = Metrics()
    for failure in (await failures(Clumsy(error, late), metrics)).values():
        assert (failure.code().name, failure.details()) == (code, str(error))
        assert error_info(failure).reason == reason
        pushback = dict(failure.trailing_metadata()).get("grpc-retry-pushback-ms")
        assert pushback == ("250" if code == "RESOURCE_EXHAUSTED" else None)
    assert counted(metrics, code) == [1] * 6


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("error", FOREIGN, ids=named)
async def test_errors_of_others_are_internal_and_keep_their_secrets(
    error: BaseException, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    for failure in (await failures(Clumsy(error, late), metrics)).values():
        assert failure.code().name == "INTERNAL"
        assert failure.details().startswith("internal error; the server's log has it under id ")
        assert error_info(failure).reason == "INTERNAL"
        assert "secret" not in str(failure.trailing_metadata())
    assert counted(metrics, "INTERNAL") == [1] * 6
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 6


class Sleeper(Clumsy):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__(AssertionError())
        self.asleep = asyncio.Semaphore(0)

    async def _sleep(self, request: message.Message, call: object) -> message.Message:
        self.asleep.release()
        await asyncio.sleep(PATIENCE_S)
        raise AssertionError

    async def _sleep_on(self, request: message.Message, call: object) -> AsyncIterator[message.Message]:
        yield await self._sleep(request, call)

    Generate = ListModels = GetModel = _sleep
    StreamGenerate = Interpolate = Invert = _sleep_on


async def test_a_caller_that_has_gone_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    servicer, metrics = Sleeper(), Metrics()
    async with served(servicer, metrics) as stub:
        for name, method in METHODS.items():
            call = getattr(stub, name)(message_factory.GetMessageClass(method.input_type)(), timeout=PATIENCE_S)
            waiting = asyncio.ensure_future(call.read() if method.server_streaming else call.code())
            await servicer.asleep.acquire()
            call.cancel()
            await asyncio.wait([waiting])
        give_up = time.monotonic() + PATIENCE_S
        while counted(metrics, "CANCELLED") != [1] * 6:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]
