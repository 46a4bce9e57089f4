"""Two servers behind one address are restarted one after the other, or killed: no call fails and no stream ends."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from progan_client import AsyncClient, Client, ServiceError

CALLS, RATE = 10_000, 100
LAME_DUCK_S = 1
PATIENCE_S = 120


async def test_a_rolling_restart_fails_none_of_ten_thousand_calls(
    tiny_store: Path,
    serve: Callable[..., Any],
    open_loop: Callable[..., Awaitable[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second one is restarted as soon as the first has answered again."""
    options = ["--lame-duck-s", str(LAME_DUCK_S)]
    servers = [await asyncio.to_thread(serve, tiny_store, *options) for _ in range(2)]
    ports = [int(server.target.rpartition(":")[2]) for server in servers]
    faults: Counter[str] = Counter()
    took_s: list[float] = []

    async def ask() -> None:
        started = time.monotonic()
        try:
            await client.generate(count=2, seed=7, timeout_s=10)
        except ServiceError as error:
            faults[str(error)] += 1
        took_s.append(time.monotonic() - started)

    async def restart(place: int) -> None:
        assert await asyncio.to_thread(servers[place].stop) == 0
        servers[place] = await asyncio.to_thread(serve, tiny_store, *options, port=ports[place])
        give_up = time.monotonic() + PATIENCE_S
        while not servers[place].metric("progan_requests_total", method="Generate", code="OK"):
            assert time.monotonic() < give_up, "its callers do not come back"
            await asyncio.sleep(0.1)

    async def restart_both() -> None:
        await asyncio.sleep(5)
        for place in (0, 1):
            await restart(place)

    async with AsyncClient(f"ipv4:{servers[0].target},{servers[1].target}") as client:
        await client.wait_until_ready()
        restarting = asyncio.create_task(restart_both())
        await open_loop(RATE, CALLS / RATE, ask)
        assert restarting.done(), "the load ended before the restarts"
        await restarting
    with capsys.disabled():
        print(f"\n{len(took_s)} calls, {sum(faults.values())} failed, the slowest took {max(took_s) * 1000:.0f} ms")
    assert faults == {}
    assert len(took_s) == CALLS


IMAGES, ENDINGS = 6_000, 4
RESOLUTION = 32  # 18 MB a stream: gRPC holds much less of it between server and client


async def test_streams_go_on_through_restarts_and_kills(
    publish_sleeper: Callable[..., Path],
    serve: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One server is restarted, then the other one killed, and so on. The readers wait for each ending."""
    caplog.set_level("INFO", "progan_client")
    store = publish_sleeper(batch_s=0.005, resolution=RESOLUTION)
    options = ["--lame-duck-s", "0.5", "--drain-s", "0.5"]
    servers = [await asyncio.to_thread(serve, store, *options) for _ in range(2)]
    ports = [int(server.target.rpartition(":")[2]) for server in servers]
    target = f"ipv4:{servers[0].target},{servers[1].target}"
    ended = [threading.Event() for _ in range(ENDINGS)]

    def wait(images: int) -> None:
        """Pause a reader that has so many images."""
        for ending in ended[: images // (IMAGES // (ENDINGS + 1))]:
            assert ending.wait(PATIENCE_S)

    async def asynchronous(method: str, **arguments: Any) -> list[int]:
        came: list[int] = []
        async with AsyncClient(target) as client:
            async for part in getattr(client, method)(**arguments):
                came += numbers(part)
                await asyncio.to_thread(wait, len(came))
        return came

    def blocking(method: str, **arguments: Any) -> list[int]:
        came: list[int] = []
        with Client(target) as client:
            for part in getattr(client, method)(**arguments):
                came += numbers(part)
                wait(len(came))
        return came

    images, walk = {"count": IMAGES, "seed": 0}, {"seeds": [1, 2], "frames_between": IMAGES - 2}
    streams = [
        asyncio.create_task(asynchronous("stream", **images)),
        asyncio.create_task(asynchronous("interpolate", **walk)),
        asyncio.create_task(asyncio.to_thread(blocking, "stream", **images)),
        asyncio.create_task(asyncio.to_thread(blocking, "interpolate", **walk)),
    ]
    for number, ending in enumerate(ended):
        place = number % 2
        await asyncio.to_thread(servers[place].end if place else servers[place].stop)
        ending.set()
        servers[place] = await asyncio.to_thread(serve, store, *options, port=ports[place])
    assert [await stream for stream in streams] == [list(range(IMAGES))] * len(streams)
    with capsys.disabled():
        print(f"\n{len(streams)} streams of {IMAGES} images went on {len(caplog.records)} times at {ENDINGS} endings")
    assert len(caplog.records) >= len(streams)  # all are on the other server after the first ending


def numbers(part: Any) -> tuple[int, ...]:
    """The seeds of images, or the index of a frame."""
    return (part.index,) if hasattr(part, "index") else part.seeds
