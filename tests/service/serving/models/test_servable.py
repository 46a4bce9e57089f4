"""A loaded version on a device of its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError, DeviceThreads
from progan_service.serving.config import BatchingConfig
from progan_service.serving.models.servable import Servable
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.store import ModelStore

LATENTS = latents_from_seeds(seed_range(0, 3), 16)


def test_named_devices_give_the_same_images(tiny_store: Path) -> None:
    store = ModelStore(tiny_store)
    anywhere, named = (Servable(store.path("tiny", 1), store.metadata("tiny", 1), device) for device in ("", "CPU:0"))
    images = named.generate((LATENTS,))
    assert (images.shape, images.dtype) == ((3, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(images, anywhere.generate((LATENTS,)))


GRADIENT = """
import sys
from pathlib import Path
import numpy as np
from progan_service.host.tensorflow import import_tensorflow
import_tensorflow()
from progan_service.serving.models.servable import Servable
from progan_service.store.store import ModelStore
store = ModelStore(Path(sys.argv[1]))
tiny = Servable(store.path("tiny", 1), store.metadata("tiny", 1))
inputs = np.ones([1, 16], np.float32), np.zeros([1, 8, 8, 3], np.uint8), np.zeros([1], np.int32)
print(tiny.loss_gradient(inputs).shape, tiny.loss_gradient(inputs).shape)
print("heard again", file=sys.stderr)
"""


def test_the_first_gradient_says_nothing_of_what_tensorflow_could_not_fuse(tiny_store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GRADIENT, tiny_store],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("(1, 17) (1, 17)\n", "heard again\n")


def test_too_little_memory_is_an_error_of_its_own(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tiny_store)
    tiny = Servable(store.path("tiny", 1), store.metadata("tiny", 1))

    def exhausted(**_: tf.Tensor) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(tiny, "_generate", exhausted)
    with pytest.raises(DeviceOutOfMemoryError, match="^3 images do not fit into the device's memory$"):
        tiny.generate((LATENTS,))


async def test_two_batches_in_flight_give_the_same_images_to_the_bit(tiny_store: Path) -> None:
    store = ModelStore(tiny_store)
    tiny = Servable(store.path("tiny", 1), store.metadata("tiny", 1))
    latents = latents_from_seeds(seed_range(0, 400), 16)

    async def images(in_flight: int) -> NDArray[np.uint8]:
        """Those of four calls that share batches of 16."""
        device = DeviceThreads("test", 2)

        def compute(inputs: tuple[NDArray[np.float32], ...]) -> Batch:
            started = time.monotonic()
            return Batch(tiny.generate(inputs), time.monotonic() - started)

        def run(inputs: tuple[NDArray[np.float32], ...], done: Callable[[Batch | Exception], None]) -> None:
            device.start(partial(compute, inputs), done, overlaps=True)

        config = BatchingConfig(max_batch_size=16, allowed_batch_sizes=(16,), max_queued_rows=400)
        batcher = DynamicBatcher([run], config, Metrics(), "tiny", in_flight=in_flight)
        calls = [batcher.submit((part,)) for part in np.split(latents, 4)]
        made = [generated.pixels for generated in await asyncio.gather(*calls)]
        batcher.close()
        device.close()
        return np.concatenate(made)

    one, two = await images(1), await images(2)
    np.testing.assert_array_equal(two, one)
    assert len(np.unique(one, axis=0)) == 400


def test_batches_are_timed_one_or_two_at_a_time(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tiny_store)
    tiny = Servable(store.path("tiny", 1), store.metadata("tiny", 1))
    assert not tiny.on_gpu
    monkeypatch.setattr(tiny, "generate", lambda inputs: time.sleep(0.05))
    assert tiny.seconds_of(4, 2, in_flight=1) >= 0.2
    assert 0.1 <= tiny.seconds_of(4, 2, in_flight=2) < 0.2
