"""What the clients do when the replies of a server do not fit their requests."""

from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from progan_client import AsyncClient, Client, GeneratedImages, ReplyError
from progan_client.command import main
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc


class LyingServicer(pb_grpc.ImageGeneratorServiceServicer):
    """Answers each call with messages of so many images as `counts` says, whatever was requested."""

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:  # noqa: N802
        images, latents = _images(self.counts[0])
        return pb.GenerateResponse(images=images, latents=latents)

    def StreamGenerate(  # noqa: N802
        self, request: pb.StreamGenerateRequest, context: Any
    ) -> Iterator[pb.StreamGenerateResponse]:
        for index, count in enumerate(self.counts):
            images, latents = _images(count)
            yield pb.StreamGenerateResponse(first_index=sum(self.counts[:index]), images=images, latents=latents)

    def Interpolate(  # noqa: N802
        self, request: pb.InterpolateRequest, context: Any
    ) -> Iterator[pb.InterpolateResponse]:
        for index, count in enumerate(self.counts):
            images, latents = _images(count)
            yield pb.InterpolateResponse(first_index=sum(self.counts[:index]), images=images, latents=latents)


class NewerHealth(health.HealthServicer):
    """Answers Check with a status that no client knows yet."""

    def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802
        return health_pb2.HealthCheckResponse(status=99)  # type: ignore[arg-type]


def _images(count: int) -> tuple[pb.Images, pb.FloatMatrix]:
    """Grey images of one pixel, of latents of length one."""
    images = pb.Images(
        encoding=pb.IMAGE_ENCODING_RAW, count=count, height=1, width=1, channels=1, pixels=b"\x07" * count
    )
    return images, pb.FloatMatrix(rows=count, columns=1, values=b"\x00\x00\x80\x3f" * count)


def _received(parts: Iterable[GeneratedImages]) -> tuple[int, str]:
    """Return how many images arrived, and the ReplyError that ended the stream."""
    images = 0
    try:
        for part in parts:
            images += len(part)
    except ReplyError as error:
        return images, str(error)
    return images, ""


@pytest.fixture
def servicer() -> LyingServicer:
    return LyingServicer([])


@pytest.fixture
def target(servicer: LyingServicer) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    pb_grpc.add_ImageGeneratorServiceServicer_to_server(servicer, server)
    healthy = NewerHealth()
    healthy.set("progan.v1.ImageGeneratorService", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(grace=0).wait()


STREAMS = [
    ([], 0, "the service ended the stream after 0 of 9 images"),
    ([2, 1], 3, "the service ended the stream after 3 of 9 images"),
    ([500], 0, "the service sent a message of 500 images after 0 of 9"),
    ([4, 4, 4], 8, "the service sent a message of 4 images after 8 of 9"),
    ([9, 1], 9, "the service sent a message of 1 images after 9 of 9"),
    ([2] + [0] * 1000, 2, "the service sent a message of 0 images after 2 of 9"),
]


@pytest.mark.parametrize(("counts", "arrived", "sentence"), STREAMS)
def test_a_stream_of_too_few_or_too_many_images_is_an_error(
    servicer: LyingServicer, target: str, counts: list[int], arrived: int, sentence: str
) -> None:
    servicer.counts = counts
    with Client(target) as client:
        assert _received(client.stream(count=9)) == (arrived, sentence)
        assert _received(frame.images for frame in client.interpolate(seeds=[1, 2], frames_between=7)) == (
            arrived,
            sentence,
        )


@pytest.mark.parametrize(("counts", "arrived", "sentence"), STREAMS)
async def test_the_asynchronous_client_says_so_too(
    servicer: LyingServicer, target: str, counts: list[int], arrived: int, sentence: str
) -> None:
    servicer.counts = counts
    images, ending = 0, ""
    async with AsyncClient(target) as client:
        try:
            async for part in client.stream(count=9):
                images += len(part)
        except ReplyError as error:
            ending = str(error)
    assert (images, ending) == (arrived, sentence)


@pytest.mark.parametrize("count", [0, 5])
async def test_a_reply_of_another_number_of_images_is_an_error(
    servicer: LyingServicer, target: str, count: int
) -> None:
    servicer.counts = [count]
    with Client(target) as client, pytest.raises(ReplyError, match=f"^the service sent {count} images instead of 1$"):
        client.generate(seed=1)
    async with AsyncClient(target) as asynchronous:
        with pytest.raises(ReplyError, match=f"^the service sent {count} images instead of 1$"):
            await asynchronous.generate(seed=1)


@pytest.mark.parametrize(
    "command", ["generate --count 9 -o a.png", "generate --count 9 -o a/", "walk --seeds 1,2 -o a.gif"]
)
def test_the_command_says_so_in_a_sentence(
    target: str,
    command: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["--target", target, *command.split()]) == 1
    images = 32 if command.startswith("walk") else 9
    assert capsys.readouterr().err == f"progan-client: the service ended the stream after 0 of {images} images\n"


async def test_a_health_status_newer_than_this_client_is_unknown(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(target) as client:
        assert client.health() == "UNKNOWN"
    async with AsyncClient(target) as asynchronous:
        assert await asynchronous.health() == "UNKNOWN"
    assert main.main(["--target", target, "health"]) == 1
    assert capsys.readouterr().out == f"{target}: UNKNOWN\n"
