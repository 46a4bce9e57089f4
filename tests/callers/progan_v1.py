"""A caller of progan.v1 with the server that it calls, and nothing but the generated stubs."""

import asyncio
import io
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
from google.protobuf import message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from PIL import Image

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.config import BatchingConfig, ServerConfig
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

    def begin_stop(self, *, lame_duck: bool = True) -> None:
        if self.stopping:
            self.stopping.cancel()
        self.stopping = asyncio.run_coroutine_threadsafe(self.server.stop(lame_duck=lame_duck), self.loop)

    def end(self) -> None:
        if not self.stopping:
            self.begin_stop(lame_duck=False)
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


def texts(files: Iterable[bytes]) -> list[dict[str, str]]:
    """The text chunks of each PNG file."""
    return [Image.open(io.BytesIO(file)).text for file in files]


def begin_waiting(host: Guest, rows: int) -> list[Any]:
    """A call that keeps the device busy until `hold` goes, and one of `rows` images that queues behind it."""
    batches = host.metric("progan_batch_rows_count")
    running = host.begin_generate(WAIT)
    until(lambda: host.metric("progan_batch_rows_count") == batches + 1)
    queued = host.begin_generate(*[(1, 0, 0, 1)] * rows)
    host.queued(rows)
    return [running, queued]


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
