"""More than a server can do, and callers that leave: what is refused, what is dropped, what it costs.

The stories that take minutes are in tests/soak.
"""

import asyncio
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving import server
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch
from progan_service.serving.batching.work import Priority
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.errors import DeadlineExceeded
from progan_service.serving.jobs import job
from progan_service.serving.server import Server
from progan_service.serving.watching.metrics import Metrics

SERVICE = "progan.v1.ImageGeneratorService"
REASONS = ("cancelled", "expired", "rejected")
PATIENCE_S = 60

Inputs = tuple[NDArray[np.float32], ...]

# Latents of the puppets, see conftest.py.
GREY = (0, 0, 0, 1)
WAIT = (0, 0, 99, 0)

WEBP = pb.OutputFormat(encoding=pb.IMAGE_ENCODING_WEBP)


class Host:
    """A server, and what can be asked of it."""

    def __init__(self, server: Server) -> None:
        self.target = f"127.0.0.1:{server.port}"
        self._metrics_url = f"http://127.0.0.1:{server.http_port}/metrics"
        self.channel = grpc.insecure_channel(self.target)
        self.stub = pb_grpc.ImageGeneratorServiceStub(self.channel)

    def ask(
        self, *rows: tuple[float, ...], timeout_s: float | None = PATIENCE_S, format: pb.OutputFormat | None = None
    ) -> Any:
        """A call under way."""
        request = pb.GenerateRequest(latents=vectors(*rows), format=format)
        return self.stub.Generate.future(request, timeout=timeout_s)

    def hold_the_device(self) -> Any:
        """A call that keeps it busy for as long as there is a file `.hold`."""
        batches = self.metric("progan_batch_rows_count")
        call = self.ask(WAIT)
        until(lambda: self.metric("progan_batch_rows_count") == batches + 1)
        return call

    def health(self) -> list[str]:
        """Of the process, of the service and of its model."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        names = ("", SERVICE, f"{SERVICE}/puppet")
        requests = [health_pb2.HealthCheckRequest(service=name) for name in names]
        states = [stub.Check(request, timeout=PATIENCE_S).status for request in requests]
        return [health_pb2.HealthCheckResponse.ServingStatus.Name(state) for state in states]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        with urllib.request.urlopen(self._metrics_url, timeout=PATIENCE_S) as page:
            families = text_string_to_metric_families(page.read().decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def queued(self, rows: int) -> None:
        until(lambda: self.metric("progan_queue_rows") == rows)


OpenHost = Callable[[int], AbstractContextManager[Host]]


@pytest.fixture
def open_host(puppet_store: Path, run_server: Callable[[ServerConfig], AbstractContextManager[Server]]) -> OpenHost:
    """`with open_host(16) as host`: batches of 4, and room for 16 rows."""

    @contextmanager
    def run(max_queued_rows: int) -> Iterator[Host]:
        batching = BatchingConfig(4, max_queued_rows=max_queued_rows)
        config = ServerConfig(puppet_store, model="puppet", port=0, http_port=0, lame_duck_s=0, batching=batching)
        with run_server(config) as server:
            host = Host(server)
            yield host
            host.channel.close()

    return run


def vectors(*rows: tuple[float, ...]) -> pb.Latents:
    values = np.array(rows, "<f4")
    return pb.Latents(vectors=pb.FloatMatrix(rows=len(rows), columns=4, values=values.tobytes()))


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def assert_comes_back_later(error: Any) -> None:
    """RESOURCE_EXHAUSTED, with the time to come back as people's libraries and as gRPC itself read it."""
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.trailing_metadata())
    details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert details[0].Unpack(info)
    assert details[1].Unpack(retry)
    assert (info.domain, info.reason) == ("progan", "QUEUE_FULL")
    assert retry.retry_delay.ToMilliseconds() > 0
    assert abs(int(trailers["grpc-retry-pushback-ms"]) - retry.retry_delay.ToMilliseconds()) <= 1


# --- more than it can do ---


def test_of_two_hundred_calls_at_a_held_device_sixteen_wait_and_the_others_come_back_later(
    open_host: OpenHost, hold: Path
) -> None:
    with open_host(16) as host:
        running = host.hold_the_device()
        calls = [host.ask(GREY) for _ in range(200)]
        until(lambda: sum(call.done() for call in calls) == 184)
        assert host.health() == ["SERVING", "SERVING", "SERVING"]
        refused, waiting = [call for call in calls if call.done()], [call for call in calls if not call.done()]
        for call in refused:
            assert_comes_back_later(call.exception())
        read = [call for call in refused if "than can be read" not in call.exception().details()]
        assert host.metric("progan_rows_dropped_total", reason="rejected") == len(
            read
        )  # of others nobody knows the rows
        hold.unlink()
        assert [call.result().images.count for call in [running, *waiting]] == [1] * 17
        assert host.metric("progan_batch_rows_sum") == 17
        assert host.metric("progan_queue_rows") == 0
        assert host.ask(GREY).result().images.count == 1


@pytest.fixture
def slow_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes 20 ms more, in which the processors are free."""
    from progan_service.serving.models.servable import Servable

    generate = Servable.generate

    def slowly(servable: Servable, inputs: Inputs) -> NDArray[np.uint8]:
        time.sleep(0.02)
        return generate(servable, inputs)

    monkeypatch.setattr(Servable, "generate", slowly)


@pytest.mark.usefixtures("slow_device")
async def test_sixty_four_callers_without_a_pause_at_a_server_with_room_for_twenty(open_host: OpenHost) -> None:
    """Every call has its own picture or is told when to come back, and memory stays where it was."""
    answered, faults = 0, []
    with open_host(16) as host:
        async with grpc.aio.insecure_channel(host.target) as channel:
            stub = pb_grpc.ImageGeneratorServiceStub(channel)
            refused = 0

            async def ask_on(shade: int, end: float) -> None:
                nonlocal answered, refused
                request = pb.GenerateRequest(latents=vectors((shade, 0, 0, 1)))
                while time.monotonic() < end:
                    try:
                        reply = await stub.Generate(request, timeout=PATIENCE_S)
                    except grpc.aio.AioRpcError as error:
                        assert_comes_back_later(error)
                        refused += 1
                    else:
                        answered += 1
                        if set(reply.images.pixels) != {100 + shade * 10}:
                            faults.append((shade, set(reply.images.pixels)))

            async def all_ask_for(seconds: float) -> None:
                end = time.monotonic() + seconds
                await asyncio.gather(*(ask_on(number % 15, end) for number in range(64)))

            await all_ask_for(1)
            before = await asyncio.to_thread(host.metric, "process_resident_memory_bytes")
            await all_ask_for(2.5)
            after = await asyncio.to_thread(host.metric, "process_resident_memory_bytes")
            assert await asyncio.to_thread(host.health) == ["SERVING", "SERVING", "SERVING"]
        assert faults == []
        assert answered > 20
        assert refused > 20
        assert after < before + 32 * 2**20
        assert host.metric("progan_images_total", model="puppet") == answered
        assert host.metric("progan_batch_rows_sum") == answered
        assert host.metric("progan_rows_dropped_total") == refused
        assert host.metric("progan_queue_rows") == 0


@pytest.fixture
def held_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The server has one encoder, which stops at every image until this is set."""
    may_go_on = threading.Event()
    encode = job.encode

    def held(*arguments: Any) -> bytes:
        assert may_go_on.wait(PATIENCE_S)
        return encode(*arguments)

    monkeypatch.setattr(job, "encode", held)
    monkeypatch.setattr(server, "available_cpus", lambda: 1)
    yield may_go_on
    may_go_on.set()


def test_of_a_hundred_calls_for_files_at_a_held_encoder_twenty_are_let_in_and_pixels_come_all_the_same(
    open_host: OpenHost, held_encoder: threading.Event
) -> None:
    """Sixteen may wait, and four more may be on the device."""
    with open_host(16) as host:
        first = host.ask(GREY, format=WEBP)
        until(lambda: host.metric("progan_batch_rows_sum") == 1)
        calls = [host.ask(GREY, format=WEBP) for _ in range(100)]
        until(lambda: sum(call.done() for call in calls) == 81)
        refused, waiting = [call for call in calls if call.done()], [call for call in calls if not call.done()]
        for call in refused:
            assert_comes_back_later(call.exception())
        until(lambda: host.metric("progan_encode_queue_rows") == 19)
        assert host.metric("progan_queue_rows") == 0
        assert [host.ask(*[GREY] * rows).result().images.count for rows in (1, 16)] == [1, 16]

        gone, stay = waiting[:5], waiting[5:]
        for call in gone:
            call.cancel()
        until(lambda: host.metric("progan_encode_queue_rows") == 14)
        held_encoder.set()
        assert [len(call.result().images.files) for call in [first, *stay]] == [1] * 15
        assert host.metric("progan_encode_duration_seconds_count", format="WEBP") == 15
        assert host.metric("progan_images_total", model="puppet") == 1 + 16 + 15
        dropped = [host.metric("progan_rows_dropped_total", reason=reason) for reason in REASONS]
        assert dropped == [5, 0, 81]
        assert host.ask(GREY, format=WEBP).result().images.count == 1


# --- callers that leave ---


def test_a_hundred_cancelled_calls_and_a_hundred_late_ones_are_never_run(open_host: OpenHost, hold: Path) -> None:
    with open_host(1000) as host:
        running = host.hold_the_device()
        stay = [host.ask(GREY, timeout_s=None) for _ in range(5)]
        gone = [host.ask(GREY) for _ in range(100)]
        late = [host.ask(GREY, timeout_s=5) for _ in range(100)]
        stay += [host.ask(GREY, timeout_s=None) for _ in range(5)]
        host.queued(210)
        for call in gone:
            call.cancel()
        host.queued(110)
        assert {call.exception().code() for call in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        host.queued(10)
        hold.unlink()
        assert [call.result().images.count for call in [running, *stay]] == [1] * 11
        assert host.metric("progan_batch_rows_sum") == 11
        assert host.metric("progan_rows_dropped_total") == 200
        assert host.metric("progan_requests_total", method="Generate", code="OK") == 11
        assert host.metric("progan_requests_total", method="Generate") == 211


class Device:
    """Takes a millisecond a batch and remembers the numbers of the rows that it met."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def run(self, inputs: Inputs, done: Callable[[Batch | Exception], None]) -> None:
        self.batches.append(inputs[0][:, 0].astype(int).tolist())
        batch = Batch(np.zeros((len(inputs[0]), 1, 1, 1), np.uint8), seconds=0.001)
        asyncio.get_running_loop().call_later(0.001, partial(done, batch))


async def test_of_two_thousand_that_leave_under_load_no_row_is_run_after_they_left() -> None:
    """A thousand cancel and a thousand are late, of three thousand; every row is run once, or dropped and counted."""
    device, metrics, chance = Device(), Metrics(), random.Random(0)
    batcher = DynamicBatcher([device.run], BatchingConfig(8, max_queued_rows=100_000), metrics, "puppet")
    rows = 0
    left: dict[int, int] = {}  # row -> batches that had begun when its caller left

    async def call(kind: str) -> None:
        nonlocal rows
        mine = range(rows, rows + chance.randint(1, 5))
        rows = mine.stop
        deadline = time.monotonic() + chance.uniform(0.001, 0.5) if kind == "late" else float("inf")
        work = asyncio.ensure_future(submit(mine, deadline))
        if kind == "cancels":
            await asyncio.sleep(chance.uniform(0, 0.5))
            work.cancel()
        try:
            generated = await work
            assert len(generated.pixels) == len(mine)
        except (asyncio.CancelledError, DeadlineExceeded):
            left.update(dict.fromkeys(mine, len(device.batches)))

    def submit(mine: range, deadline: float) -> Any:
        latents = np.array(mine, np.float32)[:, None]
        return batcher.submit((latents,), deadline, patient=True)

    kinds = ["stays", "cancels", "late"] * 1000
    await asyncio.gather(*map(call, kinds))
    run = [row for batch in device.batches for row in dict.fromkeys(batch)]  # padding repeats a row of its batch
    assert len(run) == len(set(run))
    dropped = set(range(rows)) - set(run)
    assert dropped <= left.keys()
    assert len(dropped) > 1000
    for number, batch in enumerate(device.batches):
        assert all(number < left.get(row, number + 1) for row in batch)
    counted = [
        metrics.registry.get_sample_value("progan_rows_dropped_total", {"model": "puppet", "reason": r})
        for r in REASONS
    ]
    assert sum(filter(None, counted)) == len(dropped)
    assert metrics.registry.get_sample_value("progan_batch_rows_sum") == len(run)
    wasted = metrics.registry.get_sample_value("progan_rows_wasted_total", {"model": "puppet"})
    assert wasted == len(left.keys() & set(run))
    assert sum(map(batcher.queued_rows, Priority)) == 0
    batcher.close()


async def test_the_patient_get_the_room_of_those_that_leave() -> None:
    """Even when nobody is left who waits, so that no batch makes room."""
    ends: list[Callable[[], None]] = []

    def held(inputs: Inputs, done: Callable[[Batch | Exception], None]) -> None:
        pixels = np.zeros((len(inputs[0]), 1, 1, 1), np.uint8)
        ends.append(partial(done, Batch(pixels, seconds=0.0)))

    def submit(rows: int, patient: bool = False) -> asyncio.Task[Any]:
        return asyncio.create_task(batcher.submit((np.zeros((rows, 1), np.float32),), patient=patient))

    batcher = DynamicBatcher([held], BatchingConfig(2, max_queued_rows=2), Metrics(), "puppet")
    running, waiting = submit(1), submit(2)
    await asyncio.sleep(0.01)
    patient = submit(1, patient=True)
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.sleep(0.01)
    while ends:
        ends.pop()()
        await asyncio.sleep(0.01)
    assert running.done()
    assert patient.done()
    batcher.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_thousand_images_for_a_slow_reader_take_no_memory(open_host: OpenHost) -> None:
    with open_host(16) as host:
        request = pb.StreamGenerateRequest(
            model=pb.ModelSelector(name="wide"), latents=pb.Latents(seed_range=pb.SeedRange(count=2_000))
        )
        came, resident = 0, []
        for reply in host.stub.StreamGenerate(request, timeout=PATIENCE_S):  # of 393 MB in all
            came += reply.images.count
            if came % 200 == 0:
                time.sleep(0.1)
                resident.append(host.metric("process_resident_memory_bytes"))
        assert came == 2_000
        assert max(resident) < min(resident) + 100e6


ENDLESS = vectors(*[GREY] * 8, WAIT, *[GREY] * 1000)  # as long as the device is held at its third batch
READER = """
import sys, grpc
from progan_protos.v1 import image_generator_pb2 as pb, image_generator_pb2_grpc as pb_grpc
stub = pb_grpc.ImageGeneratorServiceStub(grpc.insecure_channel(sys.argv[1]))
for _ in stub.StreamGenerate(pb.StreamGenerateRequest.FromString(bytes.fromhex(sys.argv[2]))):
    print("an image", flush=True)
"""


def until_held(host: Host) -> None:
    until(lambda: (host.metric("progan_batch_rows_sum"), host.metric("progan_queue_rows")) == (12, 4))


def assert_stopped(host: Host, hold: Path) -> None:
    """Of the stream ENDLESS, whose caller has gone, no more is run than the batch that holds the device."""
    until(lambda: host.metric("progan_requests_total", method="StreamGenerate", code="CANCELLED") == 1)
    assert host.metric("progan_queue_rows") == 0
    assert host.metric("progan_batch_rows_sum") == 12
    hold.unlink()
    assert host.ask(GREY).result().images.count == 1
    assert host.metric("progan_batch_rows_sum") == 13


def test_a_client_whose_process_is_killed_stops_its_work(open_host: OpenHost, hold: Path) -> None:
    with open_host(16) as host:
        request = pb.StreamGenerateRequest(latents=ENDLESS).SerializeToString().hex()
        command = [sys.executable, "-c", READER, host.target, request]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            try:
                until_held(host)
            finally:
                reader.kill()
        assert_stopped(host, hold)


def test_a_client_that_closes_its_channel_stops_its_work(open_host: OpenHost, hold: Path) -> None:
    with open_host(16) as host:
        with grpc.insecure_channel(host.target) as channel:
            stub = pb_grpc.ImageGeneratorServiceStub(channel)
            replies = stub.StreamGenerate(pb.StreamGenerateRequest(latents=ENDLESS), timeout=PATIENCE_S)
            assert next(replies).images.count == 4
            until_held(host)
        assert_stopped(host, hold)
