"""Real servers on free loopback ports, met with nothing but the generated stubs."""

import asyncio
import io
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from numpy.typing import NDArray
from PIL import Image

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.latents.seeds import latents_from_seeds
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.listen import ListenError
from progan_service.serving.server import Server

Publish = Callable[..., int]
SERVICE = "progan.v1.ImageGeneratorService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_S = 60  # deadline of every call; the machine may be busy

# Latents of the puppets, see conftest.py.
FAIL = (0, 99, 0, 0)
WAIT = (0, 0, 99, 0)


class Guest:
    """A server in an event loop and thread of its own, and everything one asks it for."""

    def __init__(self, config: ServerConfig) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server")
        self._thread.start()
        self.stopping: Future[None] | None = None

        async def make() -> Server:
            return Server(config)

        try:
            self.server = self.do(make())
        except BaseException:
            self._end_loop()
            raise
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.server.port}", options=[("grpc.max_receive_message_length", -1)]
        )
        self.stub = pb_grpc.ImageGeneratorServiceStub(self.channel)

    def do(self, action: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(action, self.loop).result(timeout=PATIENCE_S)

    def begin_stop(self) -> None:
        self.stopping = asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop)

    def end(self) -> None:
        if not self.stopping:
            self.begin_stop()
        assert self.stopping is not None
        self.stopping.result(timeout=PATIENCE_S)
        self.channel.close()
        self._end_loop()

    def _end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def generate(self, *rows: tuple[float, ...], **fields: Any) -> pb.GenerateResponse:
        return self.stub.Generate(pb.GenerateRequest(latents=vectors(*rows), **fields), timeout=PATIENCE_S)

    def begin_generate(self, *rows: tuple[float, ...], **fields: Any) -> Any:
        return self.stub.Generate.future(pb.GenerateRequest(latents=vectors(*rows), **fields), timeout=PATIENCE_S)

    def health(self, service: str) -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S).status

    def http(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.http_port}{path}", timeout=PATIENCE_S) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, sample: str) -> float:
        """The value of a line of /metrics, given up to its closing brace; zero when there is none."""
        _, page = self.http("/metrics")
        return sum(float(line.removeprefix(sample)) for line in page.splitlines() if line.startswith(sample + " "))

    def queued(self, rows: int) -> None:
        until(lambda: self.metric('progan_queue_rows{model="puppet",priority="interactive"}') == rows)


@contextmanager
def guest(config: ServerConfig, *, loaded: bool = True) -> Iterator[Guest]:
    """A started server, stopped at the end."""
    host = Guest(config)
    try:
        host.do(host.server.start())
        host.do(host.server.refresh() if loaded else host.server.look())
        yield host
    finally:
        host.end()


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def configured(store: Path, **settings: Any) -> ServerConfig:
    """Batches of 4 and room for 16 rows unless `settings` say otherwise."""
    standard = {"model": "puppet", "lame_duck_s": 0, "batching": BatchingConfig(4, max_queued_rows=16)}
    return ServerConfig(store, port=0, http_port=0, **{**standard, **settings})


@pytest.fixture(scope="module")
def puppets(puppet_store: Path) -> Iterator[Guest]:
    """The puppets, served: at most 12 images a call."""
    with guest(configured(puppet_store, max_images=12)) as host:
        yield host


@pytest.fixture
def tiny(server_target: str) -> Iterator[pb_grpc.ImageGeneratorServiceStub]:
    """The tiny real model, served."""
    with grpc.insecure_channel(server_target) as channel:
        yield pb_grpc.ImageGeneratorServiceStub(channel)


# --- the words of a request, and what stands in a reply ---

PNG = pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG)


def matrix(*rows: tuple[float, ...]) -> pb.FloatMatrix:
    return pb.FloatMatrix(rows=len(rows), columns=len(rows[0]), values=np.array(rows, "<f4").tobytes())


def vectors(*rows: tuple[float, ...]) -> pb.Latents:
    return pb.Latents(vectors=matrix(*rows))


def shaded(*shades: float) -> pb.Latents:
    """Latents of puppets of these shades."""
    return vectors(*((shade, 0, 0, 1) for shade in shades))


def seeds(*values: int) -> pb.Latents:
    return pb.Latents(seeds=pb.SeedList(seeds=values))


def seed_range(first: int, count: int) -> pb.Latents:
    return pb.Latents(seed_range=pb.SeedRange(first_seed=first, count=count))


def pixels(images: pb.Images) -> NDArray[np.uint8]:
    return np.frombuffer(images.pixels, np.uint8).reshape(images.count, images.height, images.width, images.channels)


def greys(images: pb.Images) -> list[int]:
    """The grey of each image; every image must be of one."""
    flat = pixels(images).reshape(images.count, -1)
    assert (flat == flat[:, :1]).all()
    return flat[:, 0].tolist()


def floats(values: pb.FloatMatrix) -> NDArray[np.float32]:
    return np.frombuffer(values.values, "<f4").reshape(values.rows, values.columns)


@dataclass
class Refusal:
    """What a call failed with, as it came over the wire."""

    code: str
    text: str
    trailers: dict[str, str | bytes]

    def detail(self, kind: type[message.Message]) -> Any:
        status = status_pb2.Status.FromString(self.trailers["grpc-status-details-bin"])
        assert status.code == grpc.StatusCode[self.code].value[0]
        assert status.message == self.text
        return next((found for packed in status.details if packed.Unpack(found := kind())), None)

    @property
    def reason(self) -> str:
        info = self.detail(error_details_pb2.ErrorInfo)
        assert info.domain == "progan"
        return info.reason

    @property
    def field(self) -> str:
        (violation,) = self.detail(error_details_pb2.BadRequest).field_violations
        assert self.text == f"{violation.field}: {violation.description}"
        return violation.field


def refusal(call: Callable[[], Any]) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return Refusal(error.code().name, error.details(), dict(error.trailing_metadata()))


# --- Generate ---


def test_generate_answers_vectors_with_their_pictures_in_order(puppets: Guest) -> None:
    reply = puppets.generate((5, 0, 0, 0), (-5, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0))
    assert greys(reply.images) == [150, 50, 110, 120, 130]
    assert (reply.images.height, reply.images.width, reply.images.channels) == (4, 4, 3)
    assert reply.images.encoding == pb.IMAGE_ENCODING_RAW


def test_generate_tells_the_latents_of_seeds_and_they_give_the_same_images(
    tiny: pb_grpc.ImageGeneratorServiceStub,
) -> None:
    by_seed = tiny.Generate(pb.GenerateRequest(latents=seeds(7, 1337)), timeout=PATIENCE_S)
    np.testing.assert_array_equal(floats(by_seed.latents), latents_from_seeds(np.array([7, 1337], np.uint64), 16))
    by_vector = tiny.Generate(pb.GenerateRequest(latents=pb.Latents(vectors=by_seed.latents)), timeout=PATIENCE_S)
    assert by_vector.images == by_seed.images


def test_the_same_seeds_give_the_same_bytes_at_every_call(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    request = pb.GenerateRequest(latents=seed_range(1337, 16))
    first, *others = (tiny.Generate(request, timeout=PATIENCE_S).images.SerializeToString() for _ in range(5))
    assert others == [first] * 4


def test_different_seeds_give_different_images(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    images = pixels(tiny.Generate(pb.GenerateRequest(latents=seed_range(0, 4)), timeout=PATIENCE_S).images)
    assert len({image.tobytes() for image in images}) == 4


def test_a_png_holds_the_same_pixels_as_raw(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    raw = tiny.Generate(pb.GenerateRequest(latents=seeds(7, 1337)), timeout=PATIENCE_S).images
    png = tiny.Generate(pb.GenerateRequest(latents=seeds(7, 1337), format=PNG), timeout=PATIENCE_S).images
    assert (png.encoding, png.count, png.pixels) == (pb.IMAGE_ENCODING_PNG, 2, b"")
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in png.files])
    np.testing.assert_array_equal(decoded, pixels(raw))


def texts(files: Iterable[bytes]) -> list[dict[str, str]]:
    """The text chunks of each PNG file."""
    return [Image.open(io.BytesIO(file)).text for file in files]


def test_a_png_tells_the_model_and_seed_it_was_made_of(puppets: Guest) -> None:
    request = pb.GenerateRequest(latents=seed_range(1337, 2), format=PNG)
    reply = puppets.stub.Generate(request, timeout=PATIENCE_S)
    common = {
        "Software": "progan",
        "Model": "puppet version 2",
        "Digest": reply.model.digest,
        "Source": "tests, 1.2 kimg",
    }
    assert texts(reply.images.files) == [common | {"Seed": "1337"}, common | {"Seed": "1338"}]
    assert puppets.stub.Generate(request, timeout=PATIENCE_S).images == reply.images


def test_a_png_of_a_vector_or_of_a_walk_tells_no_seed(puppets: Guest) -> None:
    files = list(puppets.generate((0, 0, 0, 1), format=PNG).images.files)
    walk_request = pb.InterpolateRequest(key_frames=seeds(1, 2), frames_between=1, format=PNG)
    for part in puppets.stub.Interpolate(walk_request, timeout=PATIENCE_S):
        files += part.images.files
    assert [set(found) for found in texts(files)] == [{"Software", "Model", "Digest", "Source"}] * 4


def test_the_parts_of_a_stream_tell_their_own_seeds(puppets: Guest) -> None:
    request = pb.StreamGenerateRequest(latents=seed_range(2**64 - 3, 6), format=PNG)
    replies = list(puppets.stub.StreamGenerate(request, timeout=PATIENCE_S))
    assert len(replies) > 1
    seeds = [found["Seed"] for reply in replies for found in texts(reply.images.files)]
    assert seeds == ["18446744073709551613", "18446744073709551614", "18446744073709551615", "0", "1", "2"]


PROVENANCE_AND_TEXTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "international": (
        {"source": "tfhub", "origin": "https://hub.example/progan/1", "license": "許諾\r\n© CC BY 4.0"},
        {"Source": "tfhub https://hub.example/progan/1", "License": "許諾\n© CC BY 4.0"},
    ),
    "long": ({"source": "a friend", "license": "MIT\n" * 8_000}, {"Source": "a friend", "License": "MIT\n" * 8_000}),
    "odd": ({"source": 7, "origin": {"of": "somewhere"}, "license": ["MIT", None]}, {}),
    "torn": ({"source": None, "origin": "attic\ud83c", "license": ""}, {"Source": "attic?"}),
    "silent": ({}, {}),
}


def test_a_png_tells_what_the_provenance_of_its_model_says_in_text(
    tmp_path: Path, publish_puppet: Callable[..., int]
) -> None:
    for name, (provenance, _) in PROVENANCE_AND_TEXTS.items():
        publish_puppet(tmp_path, name, provenance=provenance)
    with guest(configured(tmp_path)) as host:
        for name, (_, expected) in PROVENANCE_AND_TEXTS.items():
            reply = host.generate((0, 0, 0, 1), model=pb.ModelSelector(name=name), format=PNG)
            (found,) = texts(reply.images.files)
            assert found == {
                "Software": "progan",
                "Model": f"{name} version 1",
                "Digest": reply.model.digest,
                **expected,
            }


@pytest.mark.parametrize("encoding", ["JPEG", "WEBP"])
def test_lossy_files_are_of_the_kind_that_was_asked_for(puppets: Guest, encoding: str) -> None:
    wanted = pb.OutputFormat(encoding=pb.ImageEncoding.Value(f"IMAGE_ENCODING_{encoding}"), quality=50)
    (file,) = puppets.generate((0, 0, 0, 1), format=wanted).images.files
    image = Image.open(io.BytesIO(file))
    assert (image.format, image.size) == (encoding, (4, 4))


def test_a_reply_names_the_model_version_that_made_it(puppets: Guest) -> None:
    served = puppets.generate((0, 0, 0, 1)).model
    assert (served.name, served.version) == ("puppet", 2)
    assert re.fullmatch("sha256:[0-9a-f]{64}", served.digest)


def test_a_reply_tells_where_the_time_went(puppets: Guest) -> None:
    times = puppets.generate((0, 0, 0, 1), format=PNG).times
    assert times.inference.ToMicroseconds() > 0
    assert times.encode.ToMicroseconds() > 0
    assert 0 <= times.queue.ToMicroseconds() < PATIENCE_S * 1e6


def test_a_model_and_version_may_be_named(puppets: Guest) -> None:
    reply = puppets.generate((5, 0, 0, 0), model=pb.ModelSelector(name="puppet", version=2))
    assert greys(reply.images) == [150]


def test_labels_choose_the_picture_of_a_model_that_has_them(puppets: Guest) -> None:
    labels = matrix((1, 0), (0, 1))
    reply = puppets.generate((1, 1, 1, 1), (1, 1, 1, 1), model=pb.ModelSelector(name="labelled"), labels=labels)
    assert greys(reply.images) == [0, 100]


def test_many_calls_at_once_each_get_their_own_pictures(puppets: Guest) -> None:
    calls = {shade: puppets.begin_generate((shade, 0, 0, 1)) for shade in range(-8, 8)}
    assert {shade: greys(call.result().images) for shade, call in calls.items()} == {
        shade: [100 + 10 * shade] for shade in range(-8, 8)
    }


# --- what is refused, and how ---

ONE = vectors((0, 0, 0, 1))
NAN = float("nan")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GenerateRequest(), "latents"),
        (pb.GenerateRequest(latents=seed_range(0, 0)), "latents.seed_range.count"),
        (pb.GenerateRequest(latents=vectors((1, 2, 3))), "latents.vectors.columns"),
        (pb.GenerateRequest(latents=vectors((1, 2, NAN, 4))), "latents.vectors.values"),
        (pb.GenerateRequest(latents=vectors((0, 0, 0, 0))), "latents.vectors"),
        (pb.GenerateRequest(latents=seed_range(0, 13)), "latents"),
        (pb.GenerateRequest(latents=ONE, format=pb.OutputFormat(encoding=77)), "format.encoding"),
        (pb.GenerateRequest(latents=ONE, format=pb.OutputFormat(quality=5)), "format.quality"),
        (pb.GenerateRequest(latents=ONE, model=pb.ModelSelector(name="labelled")), "labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_breaks_a_rule_is_an_invalid_argument_and_names_the_field(
    puppets: Guest, request_: pb.GenerateRequest, field: str
) -> None:
    for call in (puppets.stub.Generate, lambda request, timeout: list(streamed(puppets, request, timeout))):
        if request_.latents.seed_range.count == 13 and call != puppets.stub.Generate:
            continue  # a stream may ask for any number
        refused = refusal(lambda call=call: call(request_, timeout=PATIENCE_S))
        assert (refused.code, refused.reason, refused.field) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT", field)


def streamed(host: Guest, request: pb.GenerateRequest, timeout: float) -> Iterator[pb.StreamGenerateResponse]:
    """The same request to StreamGenerate."""
    same = pb.StreamGenerateRequest.FromString(request.SerializeToString())
    return host.stub.StreamGenerate(same, timeout=timeout)


@pytest.mark.parametrize("method", ["Generate", "StreamGenerate", "Interpolate", "ListModels", "GetModel"])
def test_bytes_that_are_no_message_are_an_invalid_argument(puppets: Guest, method: str) -> None:
    streaming = method in ("StreamGenerate", "Interpolate")
    make = puppets.channel.unary_stream if streaming else puppets.channel.unary_unary
    call = make(f"/{SERVICE}/{method}")
    refused = refusal(lambda: list(call(b"\xff\xff\xff", timeout=PATIENCE_S)))
    assert (refused.code, refused.field) == ("INVALID_ARGUMENT", "request")


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        (pb.ModelSelector(name="cats"), "no model 'cats'; this server has: labelled, puppet, wide"),
        (pb.ModelSelector(name="puppet", version=9), "model 'puppet' has no version 9; it has: 3, 2, 1"),
    ],
)
def test_an_unknown_model_or_version_is_not_found(puppets: Guest, selector: pb.ModelSelector, says: str) -> None:
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), model=selector))
    assert (refused.code, refused.reason, refused.text) == ("NOT_FOUND", "MODEL_NOT_FOUND", says)


def test_even_a_name_of_forty_kilobytes_is_not_found_and_cut_short(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), model=pb.ModelSelector(name="\N{CAT}" * 10_000)))
    assert refused.code == "NOT_FOUND"
    assert len(refused.text) == 300


@pytest.mark.parametrize("version", [1, 3])
def test_a_version_that_is_not_loaded_is_a_failed_precondition(puppets: Guest, version: int) -> None:
    selector = pb.ModelSelector(version=version)
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), model=selector))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")


def test_labels_for_a_model_without_any_are_a_failed_precondition(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), labels=matrix((1, 0))))
    assert (refused.code, refused.text) == ("FAILED_PRECONDITION", "labels were given, and this model has none")


def test_too_many_images_for_one_reply_are_told_of_streams(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.stub.Generate(pb.GenerateRequest(latents=seed_range(0, 13)), timeout=PATIENCE_S))
    assert refused.text == "latents: asks for 13 images; one call gives at most 12, use StreamGenerate"


def test_too_many_bytes_for_one_reply_are_told_of_streams(puppet_store: Path) -> None:
    config = configured(puppet_store, max_images=100, max_reply_bytes=4 * 2**20, batching=BatchingConfig(1, (1,), 100))
    with guest(config) as host:
        wide = pb.ModelSelector(name="wide")
        assert host.generate(*[(0, 0, 0, 1)] * 20, model=wide).images.count == 20  # of 196,608 bytes each
        refused = refusal(lambda: host.generate(*[(0, 0, 0, 1)] * 21, model=wide))
    assert refused.code == "INVALID_ARGUMENT"
    assert refused.text == (
        "latents: asks for 21 images, up to 4194640 bytes; a reply holds at most 4194304, use StreamGenerate"
    )


def test_long_licences_count_as_bytes_of_a_reply(tmp_path: Path, publish_puppet: Callable[..., int]) -> None:
    licence = "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9FFF, 20_000)))  # 40 KiB at its smallest
    publish_puppet(tmp_path, "puppet", provenance={"license": licence})
    with guest(
        configured(tmp_path, max_reply_bytes=4 * 2**20, batching=BatchingConfig(16, (16,), 200), max_images=200)
    ) as host:
        request = pb.GenerateRequest(latents=seed_range(0, 120), format=PNG)
        refused = refusal(lambda: host.stub.Generate(request, timeout=PATIENCE_S))
        streamed = pb.StreamGenerateRequest(latents=request.latents, format=PNG)
        replies = list(host.stub.StreamGenerate(streamed, timeout=PATIENCE_S))
    assert refused.code == "INVALID_ARGUMENT"
    assert "a reply holds at most 4194304, use StreamGenerate" in refused.text
    assert [found["License"] for reply in replies for found in texts(reply.images.files)] == [licence] * 120
    assert all(reply.ByteSize() < 4 * 2**20 for reply in replies)


def test_more_images_than_ever_fit_the_queue_are_an_invalid_argument_not_a_retry(puppet_store: Path) -> None:
    with guest(configured(puppet_store, max_images=100)) as host:  # the queue holds 16
        request = pb.GenerateRequest(latents=seed_range(0, 17))
        refused = refusal(lambda: host.stub.Generate(request, timeout=PATIENCE_S))
    assert refused.code == "INVALID_ARGUMENT"
    assert "one call gives at most 16, use StreamGenerate" in refused.text


def test_a_fault_inside_is_internal_and_tells_only_the_id_of_its_log_entry(
    puppets: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    refused = refusal(lambda: puppets.generate(FAIL))
    assert (refused.code, refused.reason) == ("INTERNAL", "INTERNAL")
    found = re.fullmatch("internal error; the server's log has it under id ([0-9a-f]{12})", refused.text)
    assert found
    assert f"Generate failed, id {found[1]}" in caplog.text
    assert "secret of the graph" in caplog.text


def test_after_a_fault_inside_the_next_call_is_answered(puppets: Guest) -> None:
    assert refusal(lambda: puppets.generate(FAIL)).code == "INTERNAL"
    assert greys(puppets.generate((5, 0, 0, 0)).images) == [150]


def begin_waiting(host: Guest, rows: int) -> list[Any]:
    """A call that keeps the device busy until `hold` goes, and one of `rows` images that queues behind it."""
    batches = host.metric("progan_batch_rows_count")
    running = host.begin_generate(WAIT)
    until(lambda: host.metric("progan_batch_rows_count") == batches + 1)
    queued = host.begin_generate(*[(1, 0, 0, 1)] * rows)
    host.queued(rows)
    return [running, queued]


def test_a_full_queue_refuses_with_the_time_to_come_back(puppets: Guest, hold: Path) -> None:
    calls = begin_waiting(puppets, 12)
    refused = refusal(lambda: puppets.generate(*[(2, 0, 0, 1)] * 5))
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert refused.text == "no room for 5 images: 12 wait already, max_queued_rows is 16"
    retry_ms = refused.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()
    assert retry_ms > 0
    assert abs(int(refused.trailers["grpc-retry-pushback-ms"]) - retry_ms) <= 1
    hold.unlink()
    assert [call.result().images.count for call in calls] == [1, 12]


def test_work_whose_deadline_passes_in_the_queue_is_never_done(puppets: Guest, hold: Path) -> None:
    images = puppets.metric('progan_images_total{model="puppet",version="2"}')
    calls = begin_waiting(puppets, 1)
    refused = refusal(lambda: puppets.stub.Generate(pb.GenerateRequest(latents=shaded(1, 2, 3)), timeout=0.2))
    assert refused.code in {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}  # at once, where a batch took so long before
    puppets.queued(1)
    hold.unlink()
    assert [call.result().images.count for call in calls] == [1, 1]
    assert puppets.metric('progan_images_total{model="puppet",version="2"}') == images + 2


# --- StreamGenerate ---


def test_a_stream_of_a_thousand_images_comes_in_order(puppets: Guest) -> None:
    shades = np.random.default_rng(7).integers(-10, 10, 1000)
    came: list[int] = []
    request = pb.StreamGenerateRequest(latents=shaded(*shades))
    for reply in puppets.stub.StreamGenerate(request, timeout=PATIENCE_S):
        assert reply.first_index == len(came)
        assert floats(reply.latents)[:, 0].tolist() == shades[len(came) : len(came) + reply.images.count].tolist()
        came += greys(reply.images)
    assert came == (100 + 10 * shades).tolist()


def test_a_stream_sends_pictures_in_the_format_that_was_asked_for(puppets: Guest) -> None:
    request = pb.StreamGenerateRequest(latents=shaded(1, 2, 3, 4, 5, 6), format=PNG)
    replies = list(puppets.stub.StreamGenerate(request, timeout=PATIENCE_S))
    files = [file for reply in replies for file in reply.images.files]
    assert [Image.open(io.BytesIO(file)).getpixel((0, 0))[0] for file in files] == [110, 120, 130, 140, 150, 160]
    assert {reply.model.version for reply in replies} == {2}


WIDE_IMAGES = 'progan_images_total{model="wide",version="1"}'


def wide_stream(host: Guest, count: int) -> Any:
    """A stream of images of 196,608 bytes each, four in a message."""
    request = pb.StreamGenerateRequest(model=pb.ModelSelector(name="wide"), latents=seed_range(0, count))
    return host.stub.StreamGenerate(request, timeout=PATIENCE_S)


def settled(value: Callable[[], float]) -> float:
    """The value once it has not changed for half a second."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.05)
        if (now := value()) != last:
            last, since = now, time.monotonic()
    return last


def test_a_slow_reader_holds_the_work_back_and_loses_nothing(puppets: Guest) -> None:
    before = puppets.metric(WIDE_IMAGES)
    stream = wide_stream(puppets, 400)
    came = next(stream).images.count
    made = settled(lambda: puppets.metric(WIDE_IMAGES)) - before
    assert came <= made < 200
    came += sum(reply.images.count for reply in stream)
    assert came == 400


def test_a_cancelled_stream_stops_its_work(puppets: Guest) -> None:
    cancelled = puppets.metric('progan_requests_total{code="CANCELLED",method="StreamGenerate",model="wide"}')
    stream = wide_stream(puppets, 1_000_000)
    next(stream)
    stream.cancel()
    until(
        lambda: (
            puppets.metric('progan_requests_total{code="CANCELLED",method="StreamGenerate",model="wide"}')
            == cancelled + 1
        )
    )
    puppets.queued(0)
    made = puppets.metric(WIDE_IMAGES)
    time.sleep(0.3)
    assert puppets.metric(WIDE_IMAGES) == made


def test_a_stream_under_way_waits_for_room_in_a_full_queue(puppets: Guest, hold: Path) -> None:
    calls = begin_waiting(puppets, 12)
    stream = puppets.stub.StreamGenerate(pb.StreamGenerateRequest(latents=seed_range(0, 40)), timeout=PATIENCE_S)
    puppets.queued(16)
    hold.unlink()
    assert sum(reply.images.count for reply in stream) == 40
    assert [call.result().images.count for call in calls] == [1, 12]


def test_a_stream_that_finds_no_room_for_its_first_images_is_refused(puppets: Guest, hold: Path) -> None:
    calls = begin_waiting(puppets, 12)
    calls.append(puppets.begin_generate(*[(1, 0, 0, 1)] * 4))
    puppets.queued(16)
    request = pb.StreamGenerateRequest(latents=seed_range(0, 40))
    refused = refusal(lambda: list(puppets.stub.StreamGenerate(request, timeout=PATIENCE_S)))
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    hold.unlink()
    assert [call.result().images.count for call in calls] == [1, 12, 4]


def test_a_lone_call_is_answered_while_a_stream_of_a_million_runs(puppets: Guest) -> None:
    stream = puppets.stub.StreamGenerate(pb.StreamGenerateRequest(latents=seed_range(0, 1_000_000)), timeout=PATIENCE_S)
    next(stream)
    assert greys(puppets.generate((5, 0, 0, 0)).images) == [150]
    stream.cancel()


def test_a_fault_in_the_middle_of_a_stream_comes_after_the_images_before_it(puppets: Guest) -> None:
    rows = [(1, 0, 0, 1)] * 40 + [FAIL]
    came: list[int] = []

    def read() -> None:
        request = pb.StreamGenerateRequest(latents=vectors(*rows))
        for reply in puppets.stub.StreamGenerate(request, timeout=PATIENCE_S):
            came.extend(greys(reply.images))

    assert refusal(read).code == "INTERNAL"
    assert came[:32] == [110] * 32  # two batches of four may be on their way together with the bad one
    puppets.queued(0)


# --- Interpolate ---


def walk(host: Guest, **fields: Any) -> list[int]:
    replies = host.stub.Interpolate(pb.InterpolateRequest(**fields), timeout=PATIENCE_S)
    frames: list[int] = []
    for reply in replies:
        assert reply.first_index == len(frames)
        frames += greys(reply.images)
    return frames


def test_a_straight_walk(puppets: Guest) -> None:
    straight = pb.INTERPOLATION_PATH_LINEAR
    frames = walk(puppets, key_frames=shaded(0, 4, 8), frames_between=1, path=straight)
    assert frames == [100, 120, 140, 160, 180]


def test_a_straight_loop_comes_back_without_repeating_its_first_frame(puppets: Guest) -> None:
    straight = pb.INTERPOLATION_PATH_LINEAR
    frames = walk(puppets, key_frames=shaded(0, 4), frames_between=3, path=straight, loop=True)
    assert frames == [100, 110, 120, 130, 140, 130, 120, 110]


def test_a_walk_along_the_circle_is_the_default(puppets: Guest) -> None:
    quarter = vectors((10, 0, 0, 0), (0, 0, 0, 10))
    assert walk(puppets, key_frames=quarter, frames_between=1) == [200, 170, 100]  # 100 + 100 cos 45 degrees
    named = pb.INTERPOLATION_PATH_SPHERICAL
    assert walk(puppets, key_frames=quarter, frames_between=1, path=named) == [200, 170, 100]


def test_labels_of_key_frames_change_along_the_walk(puppets: Guest) -> None:
    frames = walk(
        puppets,
        model=pb.ModelSelector(name="labelled"),
        key_frames=shaded(1, 2),
        frames_between=3,
        labels=matrix((1, 0), (0, 1)),
    )
    assert frames == [0, 25, 50, 75, 100]


def test_the_key_frames_of_a_walk_are_the_images_of_their_seeds(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    images = tiny.Generate(pb.GenerateRequest(latents=seeds(1, 2, 3)), timeout=PATIENCE_S).images
    request = pb.InterpolateRequest(key_frames=seeds(1, 2, 3), frames_between=9)
    replies = tiny.Interpolate(request, timeout=PATIENCE_S)
    frames = np.concatenate([pixels(reply.images) for reply in replies])
    assert len(frames) == 21
    np.testing.assert_array_equal(frames[::10], pixels(images))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.InterpolateRequest(), "key_frames"),
        (pb.InterpolateRequest(key_frames=seeds(1)), "key_frames"),
        (pb.InterpolateRequest(key_frames=seed_range(0, 13)), "key_frames"),
        (pb.InterpolateRequest(key_frames=vectors((1, 2, 3, 4), (-2, -4, -6, -8))), "key_frames"),
        (pb.InterpolateRequest(key_frames=seeds(1, 2), path=5), "path"),
        (pb.InterpolateRequest(key_frames=seeds(1, 2), format=pb.OutputFormat(quality=5)), "format.quality"),
    ],
)
def test_a_walk_that_breaks_a_rule_is_an_invalid_argument_and_names_the_field(
    puppets: Guest, request_: pb.InterpolateRequest, field: str
) -> None:
    refused = refusal(lambda: list(puppets.stub.Interpolate(request_, timeout=PATIENCE_S)))
    assert (refused.code, refused.field) == ("INVALID_ARGUMENT", field)


# --- ListModels, GetModel ---


def test_models_are_listed_by_name_with_the_state_of_each_version(puppets: Guest) -> None:
    models = puppets.stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S).models
    assert [(model.name, model.is_default) for model in models] == [
        ("labelled", False),
        ("puppet", True),
        ("wide", False),
    ]
    assert [(version.version, version.state) for version in models[1].versions] == [
        (3, pb.MODEL_STATE_FAILED),
        (2, pb.MODEL_STATE_READY),
        (1, pb.MODEL_STATE_AVAILABLE),
    ]


def test_a_model_tells_its_sizes_labels_and_provenance(puppets: Guest) -> None:
    model = puppets.stub.GetModel(pb.GetModelRequest(name="labelled"), timeout=PATIENCE_S).model
    (version,) = model.versions
    assert (version.latent_size, version.resolution, version.channels, version.label_count) == (4, 4, 3, 2)
    assert list(version.label_names) == ["label 0", "label 1"]
    assert dict(version.provenance) == {"source": "tests", "images_shown": 1200}
    assert re.fullmatch("sha256:[0-9a-f]{64}", version.digest)


def test_get_model_without_a_name_is_the_default_model(puppets: Guest) -> None:
    model = puppets.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model
    assert (model.name, model.is_default) == ("puppet", True)


def test_a_version_that_failed_says_why(puppets: Guest) -> None:
    newest = puppets.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model.versions[0]
    assert "saved_model.pb: differs from what was published" in newest.error


def test_a_version_without_bfloat16_fails_where_that_is_asked_for(tmp_path: Path, publish_puppet: Publish) -> None:
    publish_puppet(tmp_path, "puppet")
    with guest(configured(tmp_path, precision="bfloat16")) as host:
        (version,) = host.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model.versions
    assert version.state == pb.MODEL_STATE_FAILED
    assert version.error.startswith("precision bfloat16 needs a version with the signature generate_uint8_bfloat16: ")


def test_get_model_of_an_unknown_model_is_not_found(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.stub.GetModel(pb.GetModelRequest(name="cats"), timeout=PATIENCE_S))
    assert (refused.code, refused.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_what_the_wire_cannot_carry_of_a_provenance_is_left_out(tmp_path: Path, publish_puppet: Publish) -> None:
    publish_puppet(tmp_path, "puppet")
    file = tmp_path / "puppet" / "1" / "progan.json"
    strange = {"source": "tests", "torn": "\ud800", "huge": 10**400, "deep": {"huge": [10**400]}, "\ud800": 1}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"provenance": strange}))
    with guest(configured(tmp_path)) as host:
        (version,) = host.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S).model.versions
    assert dict(version.provenance) == {"source": "tests"}


def test_of_several_models_without_a_default_one_must_be_named(puppet_store: Path) -> None:
    with guest(configured(puppet_store, model=""), loaded=False) as host:
        generate = refusal(lambda: host.generate((0, 0, 0, 1)))
        get_model = refusal(lambda: host.stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S))
    assert (generate.code, generate.field) == ("INVALID_ARGUMENT", "model.name")
    assert (get_model.code, get_model.field) == ("INVALID_ARGUMENT", "name")


# --- health and life ---


def test_before_loading_a_server_is_alive_and_not_ready_and_afterwards_both(puppet_store: Path) -> None:
    with guest(configured(puppet_store), loaded=False) as host:
        names = ("", SERVICE, f"{SERVICE}/puppet")
        assert [host.health(name) for name in names] == [SERVING, NOT_SERVING, NOT_SERVING]
        assert (host.http("/livez"), host.http("/readyz")) == ((200, "alive\n"), (503, "not ready\n"))
        refused = refusal(lambda: host.generate((0, 0, 0, 1)))
        assert (refused.code, refused.reason, refused.text) == (
            "UNAVAILABLE",
            "UNAVAILABLE",
            "model 'puppet' is still loading",
        )
        host.do(host.server.refresh())
        assert [host.health(name) for name in names] == [SERVING, SERVING, SERVING]
        assert (host.http("/livez"), host.http("/readyz")) == ((200, "alive\n"), (200, "ready\n"))


def test_health_lists_the_process_the_service_and_its_models(puppets: Guest) -> None:
    stub = health_pb2_grpc.HealthStub(puppets.channel)
    statuses = stub.List(health_pb2.HealthListRequest(), timeout=PATIENCE_S).statuses
    assert {name: entry.status for name, entry in statuses.items()} == {
        "": SERVING,
        SERVICE: SERVING,
        f"{SERVICE}/labelled": SERVING,
        f"{SERVICE}/puppet": SERVING,
        f"{SERVICE}/wide": SERVING,
    }


def test_health_of_an_unknown_name_is_not_found(puppets: Guest) -> None:
    assert refusal(lambda: puppets.health(f"{SERVICE}/cats")).code == "NOT_FOUND"


def test_an_empty_store_is_alive_and_not_ready(tmp_path: Path) -> None:
    with guest(configured(tmp_path, model="")) as host:
        assert [host.health(""), host.health(SERVICE)] == [SERVING, NOT_SERVING]
        assert host.http("/readyz")[0] == 503
        assert not host.stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S).models
        refused = refusal(lambda: host.generate((0, 0, 0, 1)))
        assert (refused.code, refused.text) == ("UNAVAILABLE", "this server has no model yet: its store is empty")


def test_with_two_replicas_a_long_batch_holds_up_nobody(puppet_store: Path, hold: Path) -> None:
    with guest(configured(puppet_store, replicas=2)) as host:
        running = host.begin_generate(WAIT)
        host.queued(0)
        assert [host.generate((shade, 0, 0, 1)).images.pixels[0] for shade in (1, 2, 3)] == [110, 120, 130]
        assert not running.done()
        hold.unlink()
        assert running.result().images.count == 1


def test_a_model_whose_device_hangs_is_not_ready_until_it_goes_on(
    puppet_store: Path, hold: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with guest(configured(puppet_store, hang_s=1)) as host:
        running = host.begin_generate(WAIT)
        until(lambda: host.do(host.server.watch_devices()) or host.health(f"{SERVICE}/puppet") == NOT_SERVING)
        assert [host.health(""), host.health(f"{SERVICE}/wide")] == [SERVING, SERVING]
        assert "model puppet: a batch runs for more than 1 s; not ready until it ends" in caplog.text
        hold.unlink()
        assert running.result().images.count == 1
        host.do(host.server.watch_devices())
        assert host.health(f"{SERVICE}/puppet") == SERVING


def test_a_lame_duck_says_not_ready_and_serves_on(puppet_store: Path) -> None:
    with guest(configured(puppet_store, lame_duck_s=5)) as host:
        host.begin_stop()
        until(lambda: host.health(SERVICE) == NOT_SERVING)
        assert [host.health(""), host.health(f"{SERVICE}/puppet")] == [SERVING, NOT_SERVING]
        assert host.http("/readyz")[0] == 503
        assert greys(host.generate((5, 0, 0, 0)).images) == [150]


def test_draining_finishes_streams_and_calls_in_flight_and_refuses_new_ones(puppet_store: Path, hold: Path) -> None:
    with guest(configured(puppet_store, drain_s=PATIENCE_S)) as host:
        stream = wide_stream(host, 400)
        came = next(stream).images.count
        settled(lambda: host.metric(WIDE_IMAGES))  # held back by its reader
        calls = begin_waiting(host, 8)
        host.begin_stop()
        until(lambda: host.health(SERVICE) == NOT_SERVING)
        time.sleep(0.1)
        refused = refusal(lambda: host.generate((0, 0, 0, 1)))
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "UNAVAILABLE")
        assert refused.text == "the server is shutting down; ask another one"
        hold.unlink()
        assert [call.result().images.count for call in calls] == [1, 8]
        assert came + sum(reply.images.count for reply in stream) == 400


def test_what_draining_does_not_finish_in_time_is_unavailable(puppet_store: Path, hold: Path) -> None:
    with guest(configured(puppet_store, drain_s=0.05)) as host:
        stream = wide_stream(host, 1_000_000)
        next(stream)
        settled(lambda: host.metric(WIDE_IMAGES))
        calls = begin_waiting(host, 8)
        host.begin_stop()
        refusals = [refusal(call.result) for call in calls]
        assert [(one.code, one.reason) for one in refusals] == [("UNAVAILABLE", "UNAVAILABLE")] * 2
        assert refusal(lambda: list(stream)).code == "UNAVAILABLE"
        hold.unlink()


def test_a_taken_grpc_port_is_refused_in_one_sentence(puppets: Guest, puppet_store: Path) -> None:
    port = puppets.server.port
    with pytest.raises(ListenError) as refused:
        Guest(ServerConfig(puppet_store, port=port, http_port=0))
    assert str(refused.value) == (
        f"the gRPC port cannot be opened on 127.0.0.1:{port}: Address already in use; try another --port or --host"
    )


def test_a_taken_http_port_is_refused_in_one_sentence(puppets: Guest, puppet_store: Path) -> None:
    port = puppets.server.http_port
    with pytest.raises(ListenError, match=f"the HTTP port cannot be opened on 127.0.0.1:{port}: .* --http-port or"):
        Guest(ServerConfig(puppet_store, port=0, http_port=port))


def test_a_server_listens_on_an_ipv6_address_too(tmp_path: Path) -> None:
    with guest(ServerConfig(tmp_path, host="::1", port=0, http_port=0, lame_duck_s=0)) as host:
        url = f"http://[::1]:{host.server.http_port}/livez"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
            assert reply.status == 200
        with grpc.insecure_channel(f"[::1]:{host.server.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status == SERVING


# --- what an operator sees ---


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_and_describes_each(puppets: Guest, version: str) -> None:
    ask = puppets.channel.stream_stream(  # the messages of both versions are the same
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    [listed] = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=PATIENCE_S)
    names = [service.name for service in listed.list_services_response.service]
    assert names == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
        SERVICE,
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ]
    questions = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
    for name, described in zip(names, ask(iter(questions), timeout=PATIENCE_S), strict=True):
        pool = descriptor_pool.DescriptorPool()
        for file in reversed(described.file_descriptor_response.file_descriptor_proto):
            pool.AddSerializedFile(file)
        assert pool.FindServiceByName(name).methods


def test_reflection_describes_nothing_but_what_is_served(puppets: Guest) -> None:
    import tensorflow  # noqa: F401  # its messages are in this process, too

    stub = reflection_pb2_grpc.ServerReflectionStub(puppets.channel)
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.GraphDef")
    [answer] = stub.ServerReflectionInfo(iter([question]), timeout=PATIENCE_S)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_metrics_count_calls_by_method_model_and_code(puppets: Guest) -> None:
    lines = {
        code: f'progan_requests_total{{code="{code}",method="Generate",model="puppet"}}'
        for code in ("OK", "INVALID_ARGUMENT", "INTERNAL")
    }
    before = {code: puppets.metric(line) for code, line in lines.items()}
    puppets.generate((0, 0, 0, 1))
    refusal(lambda: puppets.generate((0, 0, 0, 0)))
    refusal(lambda: puppets.generate(FAIL))
    assert {code: puppets.metric(line) - before[code] for code, line in lines.items()} == dict.fromkeys(lines, 1)


def test_metrics_of_listing_belong_to_no_model(puppets: Guest) -> None:
    puppets.stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S)
    assert puppets.metric('progan_requests_total{code="OK",method="ListModels",model=""}') > 0


def test_a_name_that_a_caller_made_up_is_not_in_the_metrics(puppets: Guest) -> None:
    refusal(lambda: puppets.generate((0, 0, 0, 1), model=pb.ModelSelector(name="invented")))
    refusal(lambda: puppets.stub.GetModel(pb.GetModelRequest(name="invented"), timeout=PATIENCE_S))
    _, page = puppets.http("/metrics")
    assert "invented" not in page
    assert puppets.metric('progan_requests_total{code="NOT_FOUND",method="Generate",model=""}') > 0


def test_metrics_tell_images_batches_models_and_the_process(puppets: Guest) -> None:
    images = 'progan_images_total{model="puppet",version="2"}'
    padding = "progan_batch_padding_rows_total"
    before = puppets.metric(images), puppets.metric(padding)
    puppets.generate(*[(0, 0, 0, 1)] * 3)
    assert (puppets.metric(images), puppets.metric(padding)) == (before[0] + 3, before[1] + 1)
    status, page = puppets.http("/metrics")
    assert status == 200
    for line in (
        'progan_model_ready{model="puppet"} 1.0',
        'progan_model_load_failures_total{model="puppet",reason="invalid"} 1.0',
        'progan_inference_duration_seconds_count{batch_size="4",model="puppet",version="2"}',
        'progan_queue_rows{model="puppet",priority="interactive"} 0.0',
        "process_resident_memory_bytes",
    ):
        assert line in page
    assert re.search(
        r'progan_model_info\{digest="sha256:[0-9a-f]{64}",model="puppet",'
        r'precision="float32",resolution="4",version="2"\} 1.0',
        page,
    )


def test_metrics_tell_the_precision_of_a_version(tiny_store: Path) -> None:
    with guest(configured(tiny_store, model="tiny", precision="bfloat16")) as host:
        _, page = host.http("/metrics")
    assert 'model="tiny",precision="bfloat16",resolution="8",version="1"} 1.0' in page


def test_metrics_measure_encoding_by_format(puppets: Guest) -> None:
    puppets.generate((0, 0, 0, 1), format=PNG)
    assert puppets.metric('progan_encode_duration_seconds_count{format="PNG"}') > 0


def test_any_other_path_leads_nowhere(puppets: Guest) -> None:
    assert puppets.http("/x") == (404, '{"error": "there is nothing at this path"}')
    assert puppets.http("/livez?verbose")[0] == 200
