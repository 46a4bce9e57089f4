"""A loaded version on a device of its own."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from progan_service.latents import latents_from_seeds, seed_range
from progan_service.model_store import ModelStore
from progan_service.serving.batching import DeviceOutOfMemoryError
from progan_service.serving.servable import Servable, load_servable

LATENTS = latents_from_seeds(seed_range(0, 3), 16)


def test_named_devices_give_the_same_images(tiny_store: Path) -> None:
    store = ModelStore(tiny_store)
    anywhere, named = (load_servable(store, "tiny", 1, [1, 2], device) for device in ("", "CPU:0"))
    images = named.generate((LATENTS,))
    assert (images.shape, images.dtype) == ((3, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(images, anywhere.generate((LATENTS,)))


def test_too_little_memory_is_told_from_other_faults(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tiny_store)
    servable = Servable(store.path("tiny", 1), store.metadata("tiny", 1))

    def exhausted(**_: tf.Tensor) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(servable, "_generate", exhausted)
    with pytest.raises(DeviceOutOfMemoryError, match="^3 images do not fit into the device's memory$"):
        servable.generate((LATENTS,))
