"""What the clients do when a server is busy, slow, endless or not ready."""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from progan_client import (
    AsyncClient,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    ResourceExhaustedError,
    UnavailableError,
)
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

SERVICE = "progan.v1.ImageGeneratorService"
IMAGES = pb.Images(encoding=pb.IMAGE_ENCODING_RAW, count=1, height=1, width=1, channels=1, pixels=b"\x07")
LATENTS = pb.FloatMatrix(rows=1, columns=1, values=b"\x00\x00\x80\x3f")


class UnrulyServicer(pb_grpc.ImageGeneratorServiceServicer):
    """`busy` calls of Generate are refused, the next is answered after `pause_s`; its streams never end."""

    def __init__(self) -> None:
        self.busy = 0
        self.pause_s = 0.0
        self.calls: list[dict[str, str | bytes]] = []
        self.stream_ended = threading.Event()
        self.health = health.HealthServicer()

    def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:  # noqa: N802
        self.calls.append(dict(context.invocation_metadata()))
        if self.busy:
            self.busy -= 1
            context.set_trailing_metadata(
                (("grpc-retry-pushback-ms", "10"), ("grpc-status-details-bin", BUSY.SerializeToString()))
            )
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY.message)
        time.sleep(self.pause_s)
        return pb.GenerateResponse(images=IMAGES, latents=LATENTS)

    def StreamGenerate(  # noqa: N802
        self, request: pb.StreamGenerateRequest, context: Any
    ) -> Iterator[pb.StreamGenerateResponse]:
        context.add_callback(self.stream_ended.set)
        for index in itertools.takewhile(lambda _: context.is_active(), itertools.count()):
            yield pb.StreamGenerateResponse(first_index=index, images=IMAGES, latents=LATENTS)
            time.sleep(0.005)

    def be(self, status: int) -> None:
        """Report a health status to all watchers."""
        self.health.set(SERVICE, status)


def busy_status() -> status_pb2.Status:
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="the queue is full")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(10)
    for detail in (error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="progan"), retry):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


BUSY = busy_status()


@pytest.fixture
def servicer() -> UnrulyServicer:
    return UnrulyServicer()


@pytest.fixture
def target(servicer: UnrulyServicer) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    pb_grpc.add_ImageGeneratorServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer.health, server)
    servicer.be(health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(grace=0).wait()


def test_a_busy_server_is_asked_again(servicer: UnrulyServicer, target: str) -> None:
    servicer.busy = 3
    with Client(target) as client:
        assert client.generate(seed=1).pixels.tolist() == [[[[7]]]]
    assert len(servicer.calls) == 4


def test_after_four_tries_the_error_says_when_to_come_back(servicer: UnrulyServicer, target: str) -> None:
    servicer.busy = 100
    with Client(target) as client, pytest.raises(ResourceExhaustedError, match="the queue is full") as caught:
        client.generate(seed=1)
    assert (caught.value.reason, caught.value.retry_after_s) == ("QUEUE_FULL", 0.01)
    assert len(servicer.calls) == 4


def test_a_service_that_goes_on_refusing_gets_few_retries(servicer: UnrulyServicer, target: str) -> None:
    servicer.busy = 1_000_000
    with Client(target) as client:
        for _ in range(200):
            with pytest.raises(ResourceExhaustedError):
                client.generate(seed=1)
    assert len(servicer.calls) == 275  # four tries of each call would be 800; after 100 failed tries none is repeated


def test_a_slow_server_is_left_at_the_deadline(servicer: UnrulyServicer, target: str) -> None:
    servicer.pause_s = 0.5
    with Client(target) as client, pytest.raises(DeadlineExceededError, match=r"sent no complete reply within 0\.1 s"):
        client.generate(seed=1, timeout_s=0.1)


def test_a_stream_has_a_deadline_too(target: str) -> None:
    with Client(target, stream_timeout_s=0.2) as client, pytest.raises(DeadlineExceededError, match=r"within 0\.2 s"):
        for _ in client.stream(count=1_000_000):
            pass


def test_closing_the_iterator_ends_the_work(servicer: UnrulyServicer, target: str) -> None:
    with Client(target) as client:
        parts = client.stream(count=1000)
        next(parts)
        assert not servicer.stream_ended.is_set()
        parts.close()
        assert servicer.stream_ended.wait(timeout=300)


def test_dropping_the_iterator_ends_the_work(servicer: UnrulyServicer, target: str) -> None:
    with Client(target) as client:
        for _ in client.stream(count=1000):
            break
        assert servicer.stream_ended.wait(timeout=300)


def test_closing_the_client_ends_its_streams(servicer: UnrulyServicer, target: str) -> None:
    client = Client(target)
    parts = client.stream(count=1_000_000)
    next(parts)
    client.close()
    with pytest.raises(ClientClosedError, match="is closed; create a new one"):
        for _ in parts:
            pass


async def test_closing_the_asynchronous_iterator_ends_the_work(servicer: UnrulyServicer, target: str) -> None:
    async with AsyncClient(target) as client:
        async with aclosing(client.stream(count=1000)) as parts:
            await anext(parts)
        assert servicer.stream_ended.wait(timeout=300)


def test_a_token_is_sent_along(servicer: UnrulyServicer, target: str) -> None:
    with Client(target, token="secret") as client:
        client.generate(seed=1)
    assert servicer.calls[0]["authorization"] == "Bearer secret"


def test_a_server_that_is_not_ready_gets_no_work_but_reports_its_health(servicer: UnrulyServicer, target: str) -> None:
    servicer.be(health_pb2.HealthCheckResponse.NOT_SERVING)
    with Client(target) as client:
        assert client.health() == "NOT_SERVING"
        with pytest.raises(UnavailableError, match="no ready ProGAN service"):
            client.generate(seed=1)
        with pytest.raises(DeadlineExceededError, match=r"within 0\.1 s"):
            client.wait_until_ready(timeout_s=0.1)
        assert servicer.calls == []
        servicer.be(health_pb2.HealthCheckResponse.SERVING)
        client.wait_until_ready(timeout_s=60)
        client.generate(seed=1)


async def test_the_asynchronous_client_waits_for_readiness_as_well(servicer: UnrulyServicer, target: str) -> None:
    servicer.be(health_pb2.HealthCheckResponse.NOT_SERVING)
    async with AsyncClient(target) as client:
        with pytest.raises(DeadlineExceededError, match=r"within 0\.1 s"):
            await client.wait_until_ready(timeout_s=0.1)
        servicer.be(health_pb2.HealthCheckResponse.SERVING)
        await client.wait_until_ready(timeout_s=60)
        assert (await client.generate(seed=1)).pixels.tolist() == [[[[7]]]]
