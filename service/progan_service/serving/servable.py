"""A loaded model version: latents in, pixels out. The only TensorFlow in serving; used from the model thread alone."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.latents import latents_from_seeds
from progan_service.model_store import UINT8_SIGNATURE, ModelMetadata, ModelStore, ModelStoreError
from progan_service.serving.batching import DeviceOutOfMemoryError

GOLDEN_TOLERANCE = 2  # levels of 255: another kind of processor moves a few values by one


class Servable:
    """A SavedModel with the `generate_uint8` signature, on one device."""

    def __init__(self, path: Path, metadata: ModelMetadata, device: str = "") -> None:
        """`device` as TensorFlow names it; empty: where TensorFlow likes. Raises ModelStoreError when there is no
        SavedModel with that signature."""
        self.metadata = metadata
        self._device = device
        try:
            with tf.device(device or None):
                self._loaded = tf.saved_model.load(str(path))
            self._generate = self._loaded.signatures[UINT8_SIGNATURE]
        except (OSError, KeyError, ValueError) as error:
            raise ModelStoreError(f"{path}: no SavedModel with signature {UINT8_SIGNATURE} ({error})") from error

    def generate(self, inputs: tuple[NDArray[np.float32], ...]) -> NDArray[np.uint8]:
        """Images uint8 [N, R, R, C] of latents [N, L] (and labels [N, K] for a model with labels).

        Raises DeviceOutOfMemoryError when they do not fit into its memory.
        """
        names = ("latents", "labels")[: len(inputs)]
        try:
            with tf.device(self._device or None):
                arguments = {name: tf.constant(values) for name, values in zip(names, inputs, strict=True)}
                images: NDArray[np.uint8] = self._generate(**arguments)["images"].numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise DeviceOutOfMemoryError(f"{len(inputs[0])} images do not fit into the device's memory") from error
        return images

    def warm_up(self, batch_sizes: Iterable[int]) -> None:
        """Run every batch size once, so that no request pays for a first time.

        Raises ModelStoreError when the images are not what the metadata says.
        """
        for size in batch_sizes:
            images = self.generate(self._inputs(np.arange(size, dtype=np.uint64)))
            expected = (size, *self._image_shape)
            if images.shape != expected or images.dtype != np.uint8:
                raise ModelStoreError(
                    f"{UINT8_SIGNATURE} gives {images.dtype} {images.shape} for {size} latents; "
                    f"must be uint8 {expected}"
                )

    def check_golden(self, path: Path) -> None:
        """Raises ModelStoreError when a golden seed does not show the picture that was published with it."""
        for seed, file in self.metadata.golden.items():
            expected = np.asarray(Image.open(path / file), np.int16).reshape(self._image_shape)
            image = self.generate(self._inputs(np.array([int(seed)], np.uint64)))[0]
            difference = int(np.abs(image.astype(np.int16) - expected).max())
            if difference > GOLDEN_TOLERANCE:
                raise ModelStoreError(
                    f"{path}: seed {seed} differs from {file} by {difference} levels; {GOLDEN_TOLERANCE} are allowed"
                )

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        return self.metadata.resolution, self.metadata.resolution, self.metadata.channels

    def _inputs(self, seeds: NDArray[np.uint64]) -> tuple[NDArray[np.float32], ...]:
        latents = latents_from_seeds(seeds, self.metadata.latent_size)
        if not self.metadata.label_count:
            return (latents,)
        labels = np.zeros((len(seeds), self.metadata.label_count), np.float32)
        labels[:, 0] = 1.0
        return latents, labels


def load_servable(store: ModelStore, name: str, version: int, batch_sizes: Iterable[int], device: str = "") -> Servable:
    """A version that has proved its files, and its golden pictures, and is warmed up.

    Raises DamagedVersionError when the files are not what was published, ModelStoreError when they are and do not show
    what they should.
    """
    metadata, path = store.verify(name, version), store.path(name, version)
    servable = Servable(path, metadata, device)
    servable.warm_up(batch_sizes)
    servable.check_golden(path)
    return servable


def prepare_devices() -> list[str]:
    """The GPUs to serve on, none without one. Leaves the memory that is not needed to others; must come before the
    first model."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return [f"GPU:{number}" for number in range(len(gpus))]
