"""A SavedModel in memory: latents in, pixels out. The only module of serving that imports TensorFlow."""

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.latents.seeds import latents_from_seeds
from progan_service.serving.batching.device import DeviceOutOfMemoryError
from progan_service.serving.batching.sizes import LargestBatch
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import BFLOAT16_SIGNATURE, ON_CPU, UINT8_SIGNATURE, ModelMetadata


class Servable:
    """A SavedModel with the signature `generate_uint8`, on one device.

    precision     "float32" or "bfloat16"
    batch_sizes   the sizes that are warm, rising; empty before the warm-up
    rounds        timings of the warm-up: in each round the seconds of batches that ran one after the other, by size

    Threads: the loader's thread loads it and warms it up. After that, the threads of devices call `generate`, several
    at a time where replicas share a device. Nothing changes any more then, so there is no lock.
    """

    def __init__(self, path: Path, metadata: ModelMetadata, device: str = "") -> None:
        """`device` is a name of TensorFlow; empty: TensorFlow chooses.

        Raises ModelStoreError when there is no SavedModel with the signature.
        """
        self.metadata = metadata
        self.precision = "float32"
        self.batch_sizes: tuple[int, ...] = ()
        self.rounds: Sequence[Mapping[int, float]] = ()
        self._device = device
        try:
            with tf.device(device or None):
                self._loaded = tf.saved_model.load(str(path))
            self._generate = self._fastest(UINT8_SIGNATURE)
        except (OSError, KeyError, ValueError) as error:
            raise ModelStoreError(f"{path}: no SavedModel with signature {UINT8_SIGNATURE} ({error})") from error

    def _fastest(self, signature: str) -> Any:
        """Return the function of a signature: on a CPU the one made for CPUs, if there is one."""
        signatures, for_cpus = self._loaded.signatures, signature + ON_CPU
        return signatures[for_cpus if "GPU" not in self._device and for_cpus in signatures else signature]

    def generate(self, inputs: tuple[NDArray[np.float32], ...]) -> NDArray[np.uint8]:
        """Return images uint8 [N, R, R, C] of latents [N, L], and labels [N, K] for a model with labels.

        Raises DeviceOutOfMemoryError when they do not fit into the device's memory.
        """
        names = ("latents", "labels")[: len(inputs)]
        try:
            with tf.device(self._device or None):
                arguments = {name: tf.constant(values) for name, values in zip(names, inputs, strict=True)}
                images: NDArray[np.uint8] = self._generate(**arguments)["images"].numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise DeviceOutOfMemoryError(f"{len(inputs[0])} images do not fit into the device's memory") from error
        return images

    def in_bfloat16(self) -> Self:
        """Return the same version, computing in bfloat16. Raises ModelStoreError when it was exported without that."""
        if BFLOAT16_SIGNATURE not in self._loaded.signatures:
            raise ModelStoreError(
                f"precision bfloat16 needs a version with the signature {BFLOAT16_SIGNATURE}: export it again, or "
                "serve it with precision float32 or auto"
            )
        half = copy.copy(self)
        half.precision, half._generate = "bfloat16", self._fastest(BFLOAT16_SIGNATURE)
        return half

    def from_seeds(self, seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Return the images of seeds [N], with the first label for a model with labels."""
        return self.generate(self._inputs(seeds))

    def seconds(self, batch_size: int) -> float:
        """Run a batch and return how long it took."""
        inputs = self._inputs(np.arange(batch_size, dtype=np.uint64))
        started = time.monotonic()
        self.generate(inputs)
        return time.monotonic() - started

    def largest_batch(self) -> LargestBatch:
        """Return the choice of the largest batch size, as the timings of the warm-up have it."""
        return LargestBatch(self.batch_sizes, self.rounds)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.metadata.resolution, self.metadata.resolution, self.metadata.channels

    def _inputs(self, seeds: NDArray[np.uint64]) -> tuple[NDArray[np.float32], ...]:
        latents = latents_from_seeds(seeds, self.metadata.latent_size)
        if not self.metadata.label_count:
            return (latents,)
        labels = np.zeros((len(seeds), self.metadata.label_count), np.float32)
        labels[:, 0] = 1.0
        return latents, labels


def prepare_devices() -> list[str]:
    """Return the names of the GPUs to serve on; empty without one. Must be called before the first model is loaded.

    Memory that is not needed is left to other processes.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return [f"GPU:{number}" for number in range(len(gpus))]
