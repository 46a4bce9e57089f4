"""A SavedModel in memory: latents in, pixels out. The only module of serving that imports TensorFlow."""

import copy
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.client import device_lib

from progan_service.host.memory import Bound, resident_bytes, tightest_bound
from progan_service.host.tensorflow import begin_bfloat16, unheard
from progan_service.latents.inversion.guide import Guide
from progan_service.latents.seeds import latents_from_seeds
from progan_service.serving.batching.device import DeviceOutOfMemoryError
from progan_service.serving.batching.sizes import LargestBatch
from progan_service.serving.models.room import fits
from progan_service.store.directions import Direction
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import BFLOAT16_SIGNATURE, GRADIENT_SIGNATURE, ON_CPU, UINT8_SIGNATURE, ModelMetadata


class Servable:
    """A SavedModel with the signature `generate_uint8`, on one device.

    precision     "float32" or "bfloat16"
    batch_sizes   the sizes that are warm, rising; empty before the warm-up
    directions    of the version, by name
    guide         by which the latents of images are found; None for a version without one, or without gradients
    rounds        timings of the warm-up: in each round the seconds of batches that ran one after the other, by size
    in_flight     how many batches the device is to have at a time, as the warm-up chose

    Threads: the loader's thread loads it and warms it up. After that, the threads of devices call `generate`, several
    at a time where replicas share a device. Nothing changes any more then, so there is no lock.
    """

    def __init__(self, path: Path, metadata: ModelMetadata, device: str = "") -> None:
        """`device` is a name of TensorFlow; empty: TensorFlow chooses.

        Raises ModelStoreError when there is no SavedModel with the signature.
        Raises DeviceOutOfMemoryError when its weights do not fit into the device's memory.
        """
        self.metadata = metadata
        self.precision = "float32"
        self.batch_sizes: tuple[int, ...] = ()
        self.rounds: Sequence[Mapping[int, float]] = ()
        self.in_flight = 1
        self.directions: Mapping[str, Direction] = {}
        self.guide: Guide | None = None
        self._device = device
        self._gradients_begun = False
        try:
            begin_bfloat16()
            with tf.device(device or None):
                self._loaded = tf.saved_model.load(str(path))
            self._generate = self._fastest(UINT8_SIGNATURE)
        except tf.errors.ResourceExhaustedError as error:
            raise DeviceOutOfMemoryError("the weights do not fit into the device's memory") from error
        except (OSError, KeyError, ValueError) as error:
            raise ModelStoreError(f"{path}: no SavedModel with signature {UINT8_SIGNATURE} ({error})") from error

    def _fastest(self, signature: str) -> Any:
        """Return the function of a signature: on a CPU the one made for CPUs, if there is one."""
        signatures, for_cpus = self._loaded.signatures, signature + ON_CPU
        return signatures[for_cpus if not self.on_gpu and for_cpus in signatures else signature]

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

    def loss_gradient(self, inputs: tuple[NDArray[Any], ...]) -> NDArray[np.float32]:
        """Return loss and gradient [N, 1 + L + K] by latents and labels, as the signature has them.

        inputs   latents [N, L], targets uint8 [N, R, R, C], coarseness int32 [N], and labels [N, K] if there are any
        Raises DeviceOutOfMemoryError when they do not fit into the device's memory.
        """
        names = ("latents", "targets", "coarseness", "labels")[: len(inputs)]
        try:
            with tf.device(self._device or None):
                arguments = {name: tf.constant(values) for name, values in zip(names, inputs, strict=True)}
                # At the first one, TensorFlow's remapper reports as errors what it cannot fuse, and leaves it as it is.
                with nullcontext() if self._gradients_begun else unheard():
                    found = self._loaded.signatures[GRADIENT_SIGNATURE](**arguments)
                self._gradients_begun = True
                columns = [found["loss"][:, None]]
                columns += [found[name] for name in ("gradient", "label_gradient") if name in found]
                values: NDArray[np.float32] = tf.concat(columns, axis=1).numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise DeviceOutOfMemoryError(f"{len(inputs[0])} gradients do not fit into the device's memory") from error
        return values

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

    @property
    def on_gpu(self) -> bool:
        """Return whether it runs on a GPU, which copies one batch while it computes another, and rounds to TF32."""
        return "GPU" in self._device

    def seconds_of(self, batches: int, batch_size: int, in_flight: int) -> float:
        """Run batches, so many at a time, and return how long all of them took."""
        inputs = self._inputs(np.arange(batch_size, dtype=np.uint64))
        with ThreadPoolExecutor(in_flight) as pool:
            started = time.monotonic()
            for _ in pool.map(self.generate, [inputs] * batches):
                pass
            return time.monotonic() - started

    def largest_batch(self) -> LargestBatch:
        """Return the choice of the largest batch size, as the timings of the warm-up have it."""
        return LargestBatch(self.batch_sizes, self.rounds, may_try=self.in_flight == 1)

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


class DeviceMemory:
    """The memory of one device, as TensorFlow counts it: on CPUs that of large tensors, in the process.

    Threads: used in the loader's thread only, but for `allocated_bytes`. Batches that run meanwhile count, too.
    """

    def __init__(self, device: str) -> None:
        self._device = device or "CPU:0"
        self._most_bytes = 0  # that were ever allocated. TensorFlow keeps as much on CPUs, and uses it again
        self._before = self.allocated_bytes(), resident_bytes()

    @property
    def bound(self) -> Bound | None:
        """Return the limit and what is used of it; None when it is not known."""
        now, peak = self.allocated_bytes(), self._peak()
        if "GPU" in self._device:
            return Bound(f"the memory of {self._device}", self.limit_bytes, now)
        bound = tightest_bound()
        kept = max(self._most_bytes, peak) - now
        return bound and replace(bound, used_bytes=bound.used_bytes - kept)

    @property
    def limit_bytes(self) -> int:
        """Return how much memory of a GPU TensorFlow may use."""
        return _limit_bytes(self._device)

    def allocated_bytes(self) -> int:
        """Return what TensorFlow has allocated. May be called from any thread."""
        return self._info()["current"]

    def mark(self) -> None:
        """Measure from now on."""
        self._most_bytes = max(self._most_bytes, self._peak())
        with suppress(ValueError):  # TensorFlow does not count on this device
            tf.config.experimental.reset_memory_stats(self._device)
        self._before = self.allocated_bytes(), resident_bytes()

    def taken_bytes(self) -> int:
        """Return the most that was taken at a time since the mark."""
        allocated, resident = self._before
        taken = self._peak() - allocated
        return taken if "GPU" in self._device else max(taken, resident_bytes() - resident)

    def holds(self, growth: float) -> bool:
        """Return whether a batch fits that is so many times as large as the largest since the mark."""
        return fits((self._peak() - self.allocated_bytes()) * growth, self.bound)

    def _peak(self) -> int:
        return self._info()["peak"]

    def _info(self) -> dict[str, int]:
        try:
            info: dict[str, int] = tf.config.experimental.get_memory_info(self._device)
        except ValueError:  # TensorFlow does not count on this device
            return {"current": 0, "peak": 0}
        return info


def _limit_bytes(device: str) -> int:
    """Return how much memory of a device TensorFlow may use."""
    return int(next(each.memory_limit for each in device_lib.list_local_devices() if each.name.endswith(device)))


def prepare_devices() -> list[str]:
    """Return the names of the GPUs to serve on; empty without one. Must be called before the first model is loaded.

    Memory that is not needed is left to other processes.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return [f"GPU:{number}" for number in range(len(gpus))]
