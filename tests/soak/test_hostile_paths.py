"""One caller sends paths that are no UTF-8, on and on. The others, and the process, must not notice."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from progan_client import AsyncClient

SECONDS = 40
BATCH_S = 0.02
PATIENCE_S = 60

Publish = Callable[..., Path]
Serve = Callable[..., Any]


async def attack(target: str, until: float) -> int:
    """Attacks over one connection after the other, ten on each."""
    attacks = 0
    while time.monotonic() < until:
        async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            for _ in range(10):
                path: Any = b"/\xff" * (1 + attacks % 100)
                answer = await channel.unary_unary(path)(b"", timeout=PATIENCE_S).code()
                assert answer is grpc.StatusCode.UNIMPLEMENTED
                attacks += 1
    return attacks


async def generate(client: AsyncClient, until: float) -> int:
    """Calls one after the other; each of them must be answered."""
    calls = 0
    while time.monotonic() < until:
        calls += len(await client.generate(seeds=[calls]))
    return calls


async def attacked(target: str, seconds: float) -> tuple[int, int]:
    """The attacks, and the calls of another that were answered meanwhile."""
    until = time.monotonic() + seconds
    async with AsyncClient(target) as client:
        attacks, *calls = await asyncio.gather(attack(target, until), *(generate(client, until) for _ in range(4)))
    return attacks, sum(calls)


def test_minutes_of_hostile_paths_cost_the_others_nothing(publish_sleeper: Publish, serve: Serve) -> None:
    server = serve(publish_sleeper(BATCH_S))
    asyncio.run(attacked(server.target, SECONDS / 4))
    before_mb, before = server.resident_mb(), server.metric("process_open_fds")
    attacks, calls = asyncio.run(attacked(server.target, SECONDS))
    assert attacks > 100
    assert calls > SECONDS
    assert server.resident_mb() < before_mb + 20
    assert server.metric("process_open_fds") <= before + 5  # of connections that are closing
    assert server.metric("progan_requests_total", method="other", code="UNIMPLEMENTED") > 100
    assert server.stop() == 0
