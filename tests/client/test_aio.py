"""AsyncClient against the same real server: the methods of Client, without blocking."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from progan_client import (
    ArgumentError,
    AsyncClient,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    NotFoundError,
    UnavailableError,
)


@pytest.fixture
async def client(server_target: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server_target) as client:
        yield client


def methods(kind: type) -> dict[str, list[inspect.Parameter]]:
    return {
        name: list(inspect.signature(method).parameters.values())
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    assert methods(AsyncClient) == methods(Client)


async def test_both_clients_get_the_same_images(client: AsyncClient, server_target: str) -> None:
    images = await client.generate(count=3, seed=1)
    with Client(server_target) as blocking:
        expected = await asyncio.to_thread(blocking.generate, count=3, seed=1)
    assert np.array_equal(images.pixels, expected.pixels)
    assert np.array_equal(images.latents, expected.latents)
    assert images.seeds == expected.seeds == (1, 2, 3)


async def test_many_calls_at_once(client: AsyncClient) -> None:
    replies = await asyncio.gather(*(client.generate(seed=seed) for seed in range(20)))
    whole = await client.generate(count=20, seed=0)
    assert np.array_equal(np.concatenate([reply.pixels for reply in replies]), whole.pixels)


async def test_a_stream_gives_the_images_in_order(client: AsyncClient) -> None:
    parts = [part async for part in client.stream(count=10, seed=5)]
    assert tuple(seed for part in parts for seed in part.seeds or ()) == tuple(range(5, 15))


async def test_a_walk(client: AsyncClient) -> None:
    frames = [frame async for frame in client.interpolate(seeds=[1, 2], frames_between=3)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]


async def test_a_stream_may_be_left_early(client: AsyncClient) -> None:
    async with aclosing(client.stream(count=100, seed=1)) as parts:
        async for _ in parts:
            break
    assert (await client.generate(seed=1)).seeds == (1,)


async def test_models_and_health(client: AsyncClient) -> None:
    await client.wait_until_ready(timeout_s=60)
    assert "tiny" in [model.name for model in await client.models()]
    assert (await client.model("tiny")).versions[0].latent_size == 16
    assert await client.health("tiny") == "SERVING"
    assert await client.health("nonesuch") == "SERVICE_UNKNOWN"


async def test_errors_are_those_of_client(client: AsyncClient) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.generate(seed=1, model="nonesuch")
    assert caught.value.reason
    with pytest.raises(NotFoundError):
        await anext(client.stream(count=1, model="nonesuch"))
    with pytest.raises(ArgumentError, match="count: must be 1 to"):
        client.stream(count=0)


async def test_an_unreachable_service() -> None:
    async with AsyncClient("127.0.0.1:1") as unreachable:
        with pytest.raises(UnavailableError, match=r"no ready ProGAN service at 127\.0\.0\.1:1: connection refused"):
            await unreachable.generate(seed=1)
        with pytest.raises(DeadlineExceededError, match=r"no ready ProGAN service at 127\.0\.0\.1:1 within 0\.2 s"):
            await unreachable.wait_until_ready(timeout_s=0.2)


async def test_a_closed_client_says_so(server_target: str) -> None:
    client = AsyncClient(server_target)
    await client.close()
    with pytest.raises(ClientClosedError, match="is closed; create a new one"):
        await client.generate(seed=1)
    with pytest.raises(ClientClosedError):
        await anext(client.stream(count=1))
