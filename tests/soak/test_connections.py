"""Half a minute of callers who only hold connections."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from progan_client import AsyncClient, UnavailableError

PublishSleeper = Callable[..., Path]
Serve = Callable[..., Any]

HOLDING_S = 30
PATIENCE_S = 5
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SLOW = b"GET /livez HTTP/1.1\r\nslow: "


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def hold(port: int, first: bytes, later: bytes, every_s: float) -> None:
    """Connect, say little, and connect anew ten seconds after the server has closed the connection."""
    while True:
        with suppress(OSError):
            async with connected(port) as (reader, writer):
                writer.write(first)
                while not reader.at_eof():
                    try:
                        async with asyncio.timeout(every_s):
                            await reader.read(65536)
                    except TimeoutError:
                        writer.write(later)
        await asyncio.sleep(10)


async def answered(client: AsyncClient) -> bool:
    """Whether a call is answered. A server that is full closes what is idle a moment later: then it is tried again."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return len(await client.generate(count=1)) == 1
        except UnavailableError:
            if time.monotonic() > end:
                return False


async def fetched(port: int, path: str) -> tuple[str, float]:
    """The status of a page, and the seconds that it took."""
    began = time.monotonic()
    async with connected(port) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        status = (await reader.readline()).decode().split()[1]
        await reader.read()
    return status, time.monotonic() - began


async def test_callers_who_hold_connections_harm_no_call_and_no_probe(
    publish_sleeper: PublishSleeper, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = await asyncio.to_thread(serve, publish_sleeper(batch_s=0.02), "--max-connections", "100")
    port = int(server.target.rpartition(":")[2])
    holding = [asyncio.create_task(hold(port, HELLO, b"", 3600)) for _ in range(120)]
    holding += [asyncio.create_task(hold(server.http_port, SLOW, b"a", 3)) for _ in range(200)]
    outcomes: Counter[str] = Counter()
    slowest_s = 0.0
    end = time.monotonic() + HOLDING_S
    async with AsyncClient(server.target) as steady:
        while time.monotonic() < end:
            outcomes["rounds"] += 1
            outcomes["steady"] += await answered(steady)
            async with AsyncClient(server.target) as newcomer:
                outcomes["newcomers"] += await answered(newcomer)
            for path in ("/livez", "/readyz", "/metrics"):
                status, took_s = await fetched(server.http_port, path)
                outcomes[status] += 1
                slowest_s = max(slowest_s, took_s)
            await asyncio.sleep(0.1)
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    closed = await asyncio.to_thread(server.metric, "progan_connections_closed_total")
    with capsys.disabled():
        print(f"\n{dict(outcomes)}, slowest page {slowest_s:.2f} s, {closed:.0f} connections closed to make room")
    assert outcomes["steady"] == outcomes["newcomers"] == outcomes["rounds"] > 0
    assert outcomes["200"] == 3 * outcomes["rounds"]
