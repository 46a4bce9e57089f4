"""The effect of a swap of versions on callers: times of batches of the bundled model, quiet and during swaps."""

import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from results import Row, publish

from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.bundled import BUNDLED_STORE
from progan_service.store.store import ModelStore

BATCH, SWAPS, QUIET_S = 16, 20, 1.0


async def main() -> None:
    store = ModelStore(BUNDLED_STORE)
    name = "fruits"
    bundled = store.path(name, store.serving(name))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / name).mkdir()
        shutil.copytree(bundled, root / name / "1")
        catalog = ModelCatalog(ServerConfig(root, batching=BatchingConfig(max_batch_size=BATCH)), Metrics())
        await catalog.refresh()
        await measure(catalog, root / name, bundled)
        catalog.close()


async def measure(catalog: ModelCatalog, model: Path, bundled: Path) -> None:
    quiet: list[float] = []
    swapping: list[float] = []
    turns: list[float] = []
    times = quiet
    latents = latents_from_seeds(seed_range(0, BATCH), catalog.serving_versions()[0].metadata.latent_size)

    async def load() -> None:
        while True:
            started = time.perf_counter()
            with catalog.use("") as ready:
                generated = await ready.batcher.submit((latents,))
            times.append(time.perf_counter() - started)
            turns.append(times[-1] - generated.inference_s)

    loading = asyncio.create_task(load())
    for version in range(2, 2 + SWAPS):
        times = quiet
        await asyncio.sleep(QUIET_S)
        await asyncio.to_thread(shutil.copytree, bundled, model / str(version))
        times = swapping
        await catalog.refresh()
        assert catalog.serving_versions()[0].number == version
    loading.cancel()
    rows = [*percentiles("quiet", quiet), *percentiles("during a swap", swapping)]
    publish("swaps", [*rows, Row("longest wait besides the inference itself", 1000 * max(turns), "ms")])


def percentiles(what: str, times: list[float]) -> list[Row]:
    ordered = sorted(times)
    p99 = ordered[int(len(ordered) * 0.99)]
    return [
        Row(f"{what}, median", 1000 * statistics.median(ordered), "ms", f"{len(ordered)} batches of {BATCH}"),
        Row(f"{what}, p99", 1000 * p99, "ms"),
        Row(f"{what}, longest", 1000 * ordered[-1], "ms"),
    ]


if __name__ == "__main__":
    asyncio.run(main())
