"""A caller that takes all it can, beside one that has no quota."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from progan_client import AsyncClient, ResourceExhaustedError

SECONDS = 30
BATCH_S = 0.02
GREEDY, POLITE = "greedy-token-0123456789", "polite-token-0123456789"
PER_S, AT_ONCE = 40, 60

Publish = Callable[..., Path]
Serve = Callable[..., Any]


async def stream(client: AsyncClient, until: float) -> int:
    """A stream that begins as soon as it is let in. The client itself tries four times."""
    images = 0
    while not images:
        try:
            async for part in client.stream(count=1_000_000, timeout_s=10 * SECONDS):
                images += len(part)
                if time.monotonic() > until:
                    break
        except ResourceExhaustedError as error:
            await come_back(error)
    return images


async def call(client: AsyncClient, until: float) -> int:
    """Calls of ten images, again when the refusal says so."""
    images = 0
    while time.monotonic() < until:
        try:
            images += len(await client.generate(count=10))
        except ResourceExhaustedError as error:
            await come_back(error)
    return images


async def come_back(error: ResourceExhaustedError) -> None:
    assert error.reason == "QUOTA_EXCEEDED"
    assert error.retry_after_s
    await asyncio.sleep(error.retry_after_s)


async def polite(client: AsyncClient, until: float) -> int:
    images = 0
    while time.monotonic() < until:
        images += len(await client.generate(count=1))
    return images


async def both(target: str) -> tuple[int, int, int, float]:
    """Images of the greedy caller's streams, of its calls, of the polite caller; and the seconds that it took."""
    began = time.monotonic()
    until = began + SECONDS
    async with AsyncClient(target, token=GREEDY) as greedy, AsyncClient(target, token=POLITE) as other:
        streams = [stream(greedy, until) for _ in range(3)]
        calls = [call(greedy, until) for _ in range(3)]
        images = await asyncio.gather(*streams, *calls, polite(other, until))
    return sum(images[:3]), sum(images[3:6]), images[6], time.monotonic() - began


def test_a_greedy_caller_gets_its_quota_in_streams_and_calls_and_the_other_gets_all_it_asks_for(
    publish_sleeper: Publish, serve: Serve, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"greedy {GREEDY} images_per_s={PER_S} images_at_once={AT_ONCE}\npolite {POLITE}\n")
    tokens.chmod(0o600)
    server = serve(publish_sleeper(BATCH_S), "--tokens", str(tokens))
    streamed, called, others, seconds = asyncio.run(both(server.target))
    made = server.metric("progan_caller_images_total", caller="greedy")
    assert made <= AT_ONCE + PER_S * seconds
    assert streamed + called > 0.6 * PER_S * SECONDS
    assert min(streamed, called) > 0.1 * PER_S * SECONDS
    assert others > SECONDS
    assert server.metric("progan_caller_images_total", caller="polite") == others
    assert server.metric("progan_caller_refusals_total", caller="polite") == 0
