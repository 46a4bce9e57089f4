"""The bundled model: images/s of the server beside a bare loop over the same SavedModel, and what a lone call adds.

Server and client share this machine's cores; the two take turns, medians and ratios are printed.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from progan_client import AsyncClient
from progan_service.cli import BUNDLED_STORE
from progan_service.config import BatchingConfig
from progan_service.model_store import ModelStore
from progan_service.tensorflow_import import import_tensorflow

import_tensorflow()
from progan_service.serving.servable import Servable  # noqa: E402

ROUNDS = 5
SECONDS = 4.0
CLIENTS = 32
BATCH = BatchingConfig().max_batch_size


def bare_images_per_s(servable: Servable, latents: np.ndarray) -> float:
    count, started = 0, time.monotonic()
    while time.monotonic() - started < SECONDS:
        count += len(servable.generate((latents,)))
    return count / (time.monotonic() - started)


async def served_images_per_s(client: AsyncClient, images_a_call: int) -> float:
    started = time.monotonic()

    async def ask() -> int:
        count = 0
        while time.monotonic() - started < SECONDS:
            count += len(await client.generate(count=images_a_call, seed=count))
        return count

    counts = await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    return sum(counts) / (time.monotonic() - started)


def bare_call_s(servable: Servable, latents: np.ndarray) -> float:
    times = []
    for _ in range(200):
        started = time.monotonic()
        servable.generate((latents,))
        times.append(time.monotonic() - started)
    return statistics.median(times)


async def lone_call_s(client: AsyncClient) -> float:
    times = []
    for _ in range(200):
        started = time.monotonic()
        await client.generate(count=1, seed=7)
        times.append(time.monotonic() - started)
    return statistics.median(times)


async def measure(target: str, servable: Servable) -> None:
    latents = np.random.default_rng(0).standard_normal((BATCH, servable.metadata.latent_size)).astype(np.float32)
    async with AsyncClient(target) as client:
        await client.wait_until_ready(timeout_s=120)
        rows = []
        for _ in range(ROUNDS):
            bare, bare_lone = bare_images_per_s(servable, latents), bare_call_s(servable, latents[:1])
            one, eight = await served_images_per_s(client, 1), await served_images_per_s(client, 8)
            rows.append((bare, one, eight, bare_lone, await lone_call_s(client)))
    bare, one, eight, bare_lone, lone = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"bare loop, batch {BATCH}: {bare:.0f} images/s")
    print(f"server, {CLIENTS} clients, 1 image a call: {one:.0f} images/s, {one / bare:.2f} of the bare loop")
    print(f"server, {CLIENTS} clients, 8 images a call: {eight:.0f} images/s, {eight / bare:.2f} of the bare loop")
    print(f"lone call: {lone * 1000:.2f} ms, {(lone - bare_lone) * 1000:.2f} ms more than a bare call")


def main() -> None:
    store = ModelStore(BUNDLED_STORE)
    [name] = store.models()
    version = store.versions(name)[0]
    servable = Servable(store.path(name, version), store.metadata(name, version))
    servable.warm_up(BatchingConfig().allowed_batch_sizes)
    progan = Path(sys.executable).with_name("progan")
    command = [str(progan), "serve", "--port", "0", "--http-port", "0", "--lame-duck-s", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        listening = next(line for line in process.stdout if "listening: " in line)
        target = listening.split("gRPC ")[1].split(",")[0]
        asyncio.run(measure(target, servable))
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    main()
