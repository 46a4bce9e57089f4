"""What a swap of versions costs those who call: batches of the bundled model, back to back, quiet and during swaps.

python tests/bench/swaps.py
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from progan_service.cli import BUNDLED_STORE
from progan_service.config import BatchingConfig, ServerConfig
from progan_service.latents import latents_from_seeds, seed_range
from progan_service.model_store import ModelStore
from progan_service.serving.catalog import ModelCatalog
from progan_service.serving.metrics import Metrics

BATCH, SWAPS, QUIET_S = 16, 20, 1.0


async def main() -> None:
    store = ModelStore(BUNDLED_STORE)
    (name,) = store.models()
    bundled = store.path(name, store.versions(name)[0])
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
    latents = latents_from_seeds(seed_range(0, BATCH), catalog.ready_models()[0].metadata.latent_size)

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
        assert catalog.ready_models()[0].version == version
    loading.cancel()
    print(f"a batch of {BATCH}, submitted alone and back to back, in ms; {SWAPS} swaps")
    print(f"{'':16}{'batches':>8}{'median':>8}{'p99':>8}{'longest':>9}")
    for what, values in (("quiet", quiet), ("during a swap", swapping)):
        ordered = sorted(values)
        p99 = ordered[int(len(ordered) * 0.99)]
        row = "".join(f"{1000 * value:8.1f}" for value in (statistics.median(ordered), p99))
        print(f"{what:16}{len(ordered):8}{row}{1000 * ordered[-1]:9.1f}")
    print(f"longest wait beside the inference itself: {1000 * max(turns):.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
