"""A loaded model version: latents in, pixels out. The only TensorFlow in serving; used from the model thread alone."""

import copy
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.evaluation.psnr import psnr_db
from progan_service.latents.seeds import latents_from_seeds
from progan_service.serving.batching.batcher import DeviceOutOfMemoryError
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import BFLOAT16_SIGNATURE, ON_CPU, UINT8_SIGNATURE, ModelMetadata
from progan_service.store.store import ModelStore

log = logging.getLogger(__name__)

GOLDEN_TOLERANCE = 2  # levels of 255: another kind of processor moves a few values by one

_GOOD_PSNR_DB = 40.0  # of bfloat16 against float32, what "auto" asks for: differences of two or three levels of 255
_PSNR_LOSS_DB = 3.0  # another kind of processor rounds otherwise, but not twice as coarsely
_WORTHWHILE = 1.1  # times as fast, what "auto" asks for
_TRIALS = 3

_NEAR = 0.95  # of the best images/s: batches that get there are large enough
_SHORT_BATCH_S = 0.05  # nobody minds to wait for such a batch
_LONG_BATCH_S = 1.0  # nobody wants to wait for a larger one


class Servable:
    """A SavedModel with the `generate_uint8` signature, on one device.

    precision     "float32" or "bfloat16"
    batch_sizes   those that are warm, rising: larger ones would not make more images a second
    """

    def __init__(self, path: Path, metadata: ModelMetadata, device: str = "") -> None:
        """`device` as TensorFlow names it; empty: where TensorFlow likes. Raises ModelStoreError when there is no
        SavedModel with that signature."""
        self.metadata = metadata
        self.precision = "float32"
        self.batch_sizes: tuple[int, ...] = ()
        self._device = device
        try:
            with tf.device(device or None):
                self._loaded = tf.saved_model.load(str(path))
            self._generate = self._fastest(UINT8_SIGNATURE)
        except (OSError, KeyError, ValueError) as error:
            raise ModelStoreError(f"{path}: no SavedModel with signature {UINT8_SIGNATURE} ({error})") from error

    def _fastest(self, signature: str) -> Any:
        """The function of a signature; on a CPU the one made for CPUs, where there is one."""
        signatures, for_cpus = self._loaded.signatures, signature + ON_CPU
        return signatures[for_cpus if "GPU" not in self._device and for_cpus in signatures else signature]

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

    def in_bfloat16(self) -> Self:
        """The same version, computing in bfloat16. Raises ModelStoreError when it was exported without that."""
        if BFLOAT16_SIGNATURE not in self._loaded.signatures:
            raise ModelStoreError(
                f"precision bfloat16 needs a version with the signature {BFLOAT16_SIGNATURE}: export it again, or "
                "serve it with precision float32 or auto"
            )
        half = copy.copy(self)
        half.precision, half._generate = "bfloat16", self._fastest(BFLOAT16_SIGNATURE)
        return half

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run the batch sizes, so that no request pays for a first time, and find those that are worth having.

        Raises ModelStoreError when the images are not what the metadata says.
        """
        images_per_s: dict[int, float] = {}
        seconds = 0.0
        for size in batch_sizes:
            images = self.generate(self._inputs(np.arange(size, dtype=np.uint64)))
            expected = (size, *self._image_shape)
            if images.shape != expected or images.dtype != np.uint8:
                raise ModelStoreError(
                    f"{UINT8_SIGNATURE} gives {images.dtype} {images.shape} for {size} latents; "
                    f"must be uint8 {expected}"
                )
            seconds = min(self.seconds(size) for _ in range(_TRIALS if seconds < _SHORT_BATCH_S else 1))
            images_per_s[size] = size / seconds
            if seconds > _LONG_BATCH_S:
                break
        self.batch_sizes = _worthwhile(images_per_s)

    def check_golden(self, path: Path) -> None:
        """Raises ModelStoreError when golden seeds do not show the pictures that were published with them.

        In bfloat16 they must be as near to them as they were where the version was exported, within 3 dB.
        """
        golden = self.metadata.golden
        if not golden:
            return
        pictures = np.stack(
            [np.asarray(Image.open(path / file)).reshape(self._image_shape) for file in golden.values()]
        )
        images = np.concatenate([self.generate(self._inputs(np.array([int(seed)], np.uint64))) for seed in golden])
        if self.precision == "bfloat16":
            nearness, least = psnr_db(images, pictures), (self.metadata.bfloat16_psnr_db or 0.0) - _PSNR_LOSS_DB
            if nearness < least:
                raise ModelStoreError(
                    f"{path}: in bfloat16 the golden seeds come within {nearness:.1f} dB of their pictures; "
                    f"{least:.1f} dB are needed, 3 less than where it was exported"
                )
            return
        differences = np.abs(images.astype(np.int16) - pictures).max(axis=(1, 2, 3))
        for (seed, file), difference in zip(golden.items(), differences, strict=True):
            if difference > GOLDEN_TOLERANCE:
                raise ModelStoreError(
                    f"{path}: seed {seed} differs from {file} by {difference} levels; {GOLDEN_TOLERANCE} are allowed"
                )

    def seconds(self, batch_size: int) -> float:
        """How long a batch takes."""
        inputs = self._inputs(np.arange(batch_size, dtype=np.uint64))
        started = time.monotonic()
        self.generate(inputs)
        return time.monotonic() - started

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


def load_servable(
    store: ModelStore, name: str, version: int, batch_sizes: Sequence[int], device: str = "", precision: str = "float32"
) -> Servable:
    """A version that has proved its files, and its golden pictures, and is warmed up.

    precision   "float32", "bfloat16", or "auto": whichever is better here
    Raises DamagedVersionError when the files are not what was published, ModelStoreError when they are and do not show
    what they should.
    """
    metadata, path = store.verify(name, version), store.path(name, version)
    servable = Servable(path, metadata, device)
    servable.warm_up(batch_sizes[:1] if precision == "bfloat16" else batch_sizes)
    servable.check_golden(path)
    if precision == "float32":
        return servable
    if precision == "auto" and (metadata.bfloat16_psnr_db or 0) < _GOOD_PSNR_DB:
        log.info("%s: serves in float32, for bfloat16 is not within %g dB", path, _GOOD_PSNR_DB)
        return servable
    half = servable.in_bfloat16()
    try:
        half.warm_up(batch_sizes)
        half.check_golden(path)
    except ModelStoreError as error:
        if precision == "bfloat16":
            raise
        log.warning("%s; so it serves in float32", error)
        return servable
    if precision == "bfloat16":
        return half
    size = min(half.batch_sizes[-1], servable.batch_sizes[-1])
    return half if _times_as_fast(half, servable, size) >= _WORTHWHILE else servable


def _worthwhile(images_per_s: Mapping[int, float]) -> tuple[int, ...]:
    """The batch sizes up to the smallest that comes near the best; but all whose batches are short."""
    near_best = _NEAR * max(images_per_s.values())
    needed = next(size for size, speed in images_per_s.items() if speed >= near_best)
    return tuple(size for size, speed in images_per_s.items() if size <= needed or size / speed <= _SHORT_BATCH_S)


def _times_as_fast(one: Servable, other: Servable, batch_size: int) -> float:
    ratios = []
    for _ in range(_TRIALS):
        ratios.append(other.seconds(batch_size) / one.seconds(batch_size))
    return statistics.median(ratios)


def prepare_devices() -> list[str]:
    """The GPUs to serve on, none without one. Leaves the memory that is not needed to others; must come before the
    first model."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return [f"GPU:{number}" for number in range(len(gpus))]
