"""A stream goes on at the next server, image by image the same, when one drains or dies or the connection is cut."""

import asyncio
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from served import served

from progan_client import AsyncClient, Client, Frame, GeneratedImages, UnavailableError
from progan_client.command import main
from progan_client.command.output import Output
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server
from progan_service.store.store import ModelStore

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]
OpenProxy = Callable[..., Any]
Part = GeneratedImages | Frame

COUNT = 2001  # half a megabyte: gRPC holds less between server and client, so the server is at work when one arrives
PROGAN = Path(sys.executable).with_name("progan")

LATENTS = np.random.default_rng(7).standard_normal((COUNT, 16)).astype(np.float32)
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "count": ("stream", {"count": COUNT, "seed": 2**64 - 100}),
    "seeds": ("stream", {"seeds": range(0, 3 * COUNT, 3)}),
    "vectors": ("stream", {"latents": LATENTS}),
    "walk": ("interpolate", {"seeds": [1, 2, 3], "frames_between": COUNT // 2 - 1}),
}
CLIENTS = ["Client", "AsyncClient"]


def stream(kind: str, target: str, source: str, after_first: Callable[[], None] = lambda: None) -> list[Part]:
    """All parts of a stream; `after_first` runs when the first one has arrived."""
    method, arguments = STREAMS[source]
    parts: list[Part] = []

    def take(part: Part) -> None:
        parts.append(part)
        if len(parts) == 1:
            after_first()

    def blocking() -> None:
        with Client(target) as client:
            for part in getattr(client, method)(**arguments):
                take(part)

    async def asynchronous() -> None:
        async with AsyncClient(target) as client:
            async for part in getattr(client, method)(**arguments):
                await asyncio.to_thread(take, part)

    asyncio.run(asynchronous()) if kind == "AsyncClient" else blocking()
    return parts


def content(parts: Iterable[Part]) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[int]]:
    """Pixels, latents, and the seeds of images or the indices of frames."""
    images = [part.images if isinstance(part, Frame) else part for part in parts]
    numbers = [number for part in parts for number in ([part.index] if isinstance(part, Frame) else part.seeds or ())]
    return np.concatenate([i.pixels for i in images]), np.concatenate([i.latents for i in images]), numbers


@pytest.fixture(scope="module")
def unbroken(server_target: str) -> dict[str, tuple[Any, ...]]:
    """The content of each stream that nothing interrupts."""
    return {source: content(stream("Client", server_target, source)) for source in STREAMS}


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "progan_client")


def assert_went_on(caplog: pytest.LogCaptureFixture, parts: list[Part], expected: tuple[Any, ...], why: str) -> None:
    """The stream broke once, and every image came once and in order."""
    (line,) = [record.message for record in caplog.records if record.name == "progan_client"]
    broke = re.fullmatch(r"the stream went on after (\d+) of 2001 images: (.+)", line)
    assert broke
    assert 0 < int(broke[1]) < COUNT
    assert why in broke[2]
    for came, wanted in zip(content(parts), expected, strict=True):
        assert np.array_equal(came, wanted)


def busiest(ways: list[Any]) -> Any:
    return max(ways, key=lambda way: way.received_bytes)


def both(*targets: str) -> str:
    return "ipv4:" + ",".join(targets)


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("source", STREAMS)
def test_when_the_way_to_a_server_is_closed(
    server_target: str,
    proxy: OpenProxy,
    unbroken: dict[str, tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
    kind: str,
    source: str,
) -> None:
    ways = [proxy(server_target), proxy(server_target)]
    parts = stream(kind, both(ways[0].target, ways[1].target), source, lambda: busiest(ways).close())
    assert_went_on(caplog, parts, unbroken[source], "connection")


@pytest.mark.parametrize("kind", CLIENTS)
def test_when_the_only_connection_is_reset(
    server_target: str,
    proxy: OpenProxy,
    unbroken: dict[str, tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    way = proxy(server_target)
    parts = stream(kind, way.target, "count", way.cut)
    assert_went_on(caplog, parts, unbroken["count"], "connection")


@pytest.mark.parametrize(("kind", "source"), [("Client", "count"), ("AsyncClient", "walk")])
def test_when_a_server_drains_and_the_next_one_is_ready_later(
    server_target: str,
    tiny_store: Path,
    run_server: RunServer,
    proxy: OpenProxy,
    unbroken: dict[str, tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
    kind: str,
    source: str,
    one_size: BatchingConfig,
) -> None:
    next_one = proxy(server_target, opened=False)
    with ExitStack() as running:
        server = running.enter_context(
            run_server(ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, drain_s=0.1, batching=one_size))
        )

        def replace() -> None:
            running.close()
            next_one.open()

        parts = stream(kind, both(f"127.0.0.1:{server.port}", next_one.target), source, replace)
    assert_went_on(caplog, parts, unbroken[source], "the server is shutting down")


def test_when_a_server_is_killed(
    server_target: str,
    tiny_store: Path,
    proxy: OpenProxy,
    unbroken: dict[str, tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    next_one = proxy(server_target, opened=False)
    with served("--store", tiny_store) as server:
        server.line("ready: ")

        def replace() -> None:
            server.process.kill()
            server.process.wait()
            next_one.open()

        parts = stream("Client", both(server.target, next_one.target), "vectors", replace)
    assert_went_on(caplog, parts, unbroken["vectors"], "connection")


def test_where_the_next_server_has_another_version_the_stream_ends_with_the_first_error(
    server_target: str, tiny_store: Path, tmp_path: Path, run_server: RunServer, proxy: OpenProxy
) -> None:
    newer = ModelStore(tmp_path)
    shutil.copytree(tiny_store / "tiny" / "1", newer.path("tiny", 2))
    with run_server(ServerConfig(newer.root, port=0, http_port=0, lame_duck_s=0)) as server:
        ways = [proxy(server_target), proxy(f"127.0.0.1:{server.port}", opened=False)]

        def replace() -> None:
            ways[0].close()
            ways[1].open()

        with pytest.raises(UnavailableError, match="connection") as ended:
            stream("Client", both(*(way.target for way in ways)), "count", replace)
    assert ended.value.__notes__ == ["The stream could not go on: model 'tiny' has no version 1; it has: 2"]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_command_says_so_on_a_terminal(
    server_target: str,
    proxy: OpenProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    way = proxy(server_target)
    write = Output.write_each

    def cut_and_write(output: Output, parts: Iterator[GeneratedImages]) -> None:
        def cut_after_first() -> Iterator[GeneratedImages]:
            yield next(parts)
            way.cut()
            yield from parts

        write(output, cut_after_first())

    monkeypatch.setattr(Output, "write_each", cut_and_write)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    command = ["--target", way.target, "generate", "--seed", "5", "--count", "2001", "-o", f"{tmp_path}/"]
    assert main.main(command) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path}/image-0000.png to image-2000.png: 2001 images of seeds 5 to 2005,")
    if terminal:
        assert re.fullmatch(r"progan-client: the stream went on after \d+ of 2001 images: .*\n", err)
    else:
        assert err == ""
