"""A loaded version on a device of its own."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.serving.batching.device import DeviceOutOfMemoryError
from progan_service.serving.models.servable import Servable
from progan_service.store.store import ModelStore

LATENTS = latents_from_seeds(seed_range(0, 3), 16)


def test_named_devices_give_the_same_images(tiny_store: Path) -> None:
    store = ModelStore(tiny_store)
    anywhere, named = (Servable(store.path("tiny", 1), store.metadata("tiny", 1), device) for device in ("", "CPU:0"))
    images = named.generate((LATENTS,))
    assert (images.shape, images.dtype) == ((3, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(images, anywhere.generate((LATENTS,)))


def test_too_little_memory_is_an_error_of_its_own(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tiny_store)
    tiny = Servable(store.path("tiny", 1), store.metadata("tiny", 1))

    def exhausted(**_: tf.Tensor) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(tiny, "_generate", exhausted)
    with pytest.raises(DeviceOutOfMemoryError, match="^3 images do not fit into the device's memory$"):
        tiny.generate((LATENTS,))
