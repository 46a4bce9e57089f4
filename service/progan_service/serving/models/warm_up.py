"""Before a version serves: it must show its golden pictures, its batch sizes are run, and the precision is chosen."""

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from progan_service.evaluation.psnr import psnr_db
from progan_service.serving.batching.device import DeviceOutOfMemoryError
from progan_service.serving.batching.sizes import LONG_BATCH_S
from progan_service.serving.models.servable import Servable
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import UINT8_SIGNATURE
from progan_service.store.store import ModelStore

log = logging.getLogger(__name__)

GOLDEN_TOLERANCE = 2  # levels of 255: another kind of processor moves a few values by one
TF32_TOLERANCE = 8  # on GPUs, which round factors to TF32; cut to it on a CPU, images of 64 seeds moved by up to four

_GOOD_PSNR_DB = 40.0  # of bfloat16 against float32, needed by "auto": differences of two or three levels of 255
_PSNR_LOSS_DB = 3.0  # another kind of processor rounds differently, but not twice as coarsely
_WORTHWHILE = 1.1  # times as fast as float32, needed by "auto"
_TRIALS = 3

_TOO_LONG_S = 4.0  # longer batches are not warmed; the machine may be busy now, and four times as fast later
_ROUNDS = 5  # of timings
_TIMING_S = 5.0  # after so many seconds no other round begins

_BATCHES = 8  # that show how much is gained by two in flight
_CLEAR_GAIN = 1.05  # times the images/s of one in flight, needed in three of four rounds

Holds = Callable[[float], bool]


def load_servable(
    store: ModelStore,
    name: str,
    version: int,
    batch_sizes: Sequence[int],
    device: str = "",
    precision: str = "float32",
    holds: Holds = lambda growth: True,
) -> Servable:
    """Load a version, verify its files and golden pictures, and warm it up.

    precision   "float32", "bfloat16", or "auto": the better one on this device
    holds       whether the device's memory holds a batch so many times as large as the largest so far
    Raises DamagedVersionError when the files are not the published ones, ModelStoreError when they are and the images
    directions or guide are wrong, DeviceOutOfMemoryError when the version does not fit into the device's memory.
    """
    servable = _in_best_precision(store, name, version, batch_sizes, device, precision, holds)
    servable.in_flight = batches_in_flight(servable, holds)
    return servable


def _in_best_precision(
    store: ModelStore,
    name: str,
    version: int,
    batch_sizes: Sequence[int],
    device: str,
    precision: str,
    holds: Holds,
) -> Servable:
    metadata, path = store.verify(name, version), store.path(name, version)
    directions = store.directions(name, version)
    guide = store.guide(name, version) if metadata.can_invert else None
    whole = Servable(path, metadata, device)
    whole.directions, whole.guide = directions, guide
    warm_up(whole, batch_sizes[:1] if precision == "bfloat16" else batch_sizes, holds)
    check_golden(whole, path)
    match precision:
        case "bfloat16":
            return _warm_bfloat16(whole, path, batch_sizes, holds)
        case "auto":
            return _better(whole, path, batch_sizes, holds)
        case _:
            return whole


def _warm_bfloat16(whole: Servable, path: Path, batch_sizes: Sequence[int], holds: Holds) -> Servable:
    half = whole.in_bfloat16()
    warm_up(half, batch_sizes, holds)
    check_golden(half, path)
    return half


def _better(whole: Servable, path: Path, batch_sizes: Sequence[int], holds: Holds) -> Servable:
    """Return the version in bfloat16 if it is as good to the eye and faster, else in float32."""
    if (whole.metadata.bfloat16_psnr_db or 0) < _GOOD_PSNR_DB:
        log.info("%s: serves in float32: bfloat16 is not within %g dB of it", path, _GOOD_PSNR_DB)
        return whole
    try:
        half = _warm_bfloat16(whole, path, batch_sizes, holds)
    except ModelStoreError as error:
        log.warning("%s; so it serves in float32", error)
        return whole
    size = min(half.largest_batch().rows, whole.largest_batch().rows)
    return half if _times_as_fast(half, whole, size) >= _WORTHWHILE else whole


def _times_as_fast(one: Servable, other: Servable, batch_size: int) -> float:
    ratios = []
    for _ in range(_TRIALS):
        ratios.append(other.seconds(batch_size) / one.seconds(batch_size))
    return statistics.median(ratios)


def warm_up(servable: Servable, batch_sizes: Sequence[int], holds: Holds = lambda growth: True) -> None:
    """Run batches of these sizes, so that no request is the first, and set `batch_sizes` and `rounds`.

    Sizes whose batches would take more than 4 s, or more memory than there is, are left out.
    Raises ModelStoreError when the images are not what the metadata says, DeviceOutOfMemoryError when not even the
    smallest batch fits into the device's memory.
    """
    best_s: dict[int, float] = {}
    for size in batch_sizes:
        if best_s and (_expected_s(size, best_s) > _TOO_LONG_S or not holds(size / max(best_s))):
            break
        try:
            best_s[size] = _first_run_s(servable, size)
        except DeviceOutOfMemoryError:
            if not best_s:
                raise
            break
    servable.batch_sizes = tuple(best_s)
    servable.rounds = _rounds(servable, best_s)


def _expected_s(size: int, best_s: Mapping[int, float]) -> float:
    return size * min(seconds / each for each, seconds in best_s.items())


def _first_run_s(servable: Servable, size: int) -> float:
    """Check the images of a first batch, and return how long another one takes."""
    _check_images(servable, servable.from_seeds(np.arange(size, dtype=np.uint64)), size)
    return servable.seconds(size)


def _rounds(servable: Servable, best_s: dict[int, float]) -> list[Mapping[int, float]]:
    """Return rounds of timings of the sizes that may be chosen at the start. Improve the best times on the way.

    One batch that takes too long by chance leaves no size out: the best time of a size counts.
    """
    rounds: list[dict[int, float]] = []
    wanted, spent_s = (_ROUNDS if len(servable.batch_sizes) > 1 else 1), 0.0
    while len(rounds) < wanted and spent_s < _TIMING_S:
        rounds.append({})
        for size in servable.batch_sizes:
            seconds = rounds[-1][size] = servable.seconds(size)
            spent_s += seconds
            best_s[size] = min(best_s[size], seconds)
            if best_s[size] > LONG_BATCH_S:
                break
    most_sizes = max(map(len, rounds))
    return [each for each in rounds if len(each) == most_sizes]


def batches_in_flight(servable: Servable, holds: Holds = lambda growth: True) -> int:
    """Return 2 if two batches at a time make clearly more images/s, and fit into memory; else 1.

    On CPUs it is 1 without a trial: they compute all the time that a batch takes.
    """
    size, gains, spent_s = servable.largest_batch().rows, list[float](), 0.0
    if not servable.on_gpu or not holds(2.0):
        return 1
    try:
        while len(gains) < _ROUNDS and spent_s < _TIMING_S:
            one_s, two_s = (servable.seconds_of(_BATCHES, size, in_flight) for in_flight in (1, 2))
            spent_s += one_s + two_s
            gains.append(one_s / two_s)
    except DeviceOutOfMemoryError:
        return 1
    log.info("two batches of %d in flight make %.2f times the images/s of one", size, statistics.median(gains))
    is_clear = len(gains) > 2 and statistics.quantiles(gains, n=4, method="inclusive")[0] >= _CLEAR_GAIN
    return 2 if is_clear else 1


def _check_images(servable: Servable, images: NDArray[np.uint8], count: int) -> None:
    expected = (count, *servable.image_shape)
    if images.shape != expected or images.dtype != np.uint8:
        raise ModelStoreError(
            f"{UINT8_SIGNATURE} gives {images.dtype} {images.shape} for {count} latents; must be uint8 {expected}"
        )


def check_golden(servable: Servable, path: Path) -> None:
    """Raise ModelStoreError when the golden seeds do not give the pictures that were published with them.

    In bfloat16 they must be as near to the pictures as they were where the version was exported, within 3 dB.
    """
    golden = servable.metadata.golden
    if not golden:
        return
    pictures = np.stack([_picture(path / file, servable.image_shape) for file in golden.values()])
    images = np.concatenate([servable.from_seeds(np.array([int(seed)], np.uint64)) for seed in golden])
    if servable.precision == "bfloat16":
        _check_nearness(servable, path, psnr_db(images, pictures))
        return
    allowed = TF32_TOLERANCE if servable.on_gpu else GOLDEN_TOLERANCE
    differences = np.abs(images.astype(np.int16) - pictures).max(axis=(1, 2, 3))
    for (seed, file), difference in zip(golden.items(), differences, strict=True):
        if difference > allowed:
            raise ModelStoreError(
                f"{path}: seed {seed} differs from {file} by {difference} levels; {allowed} are allowed"
            )


def _picture(file: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a golden picture, uint8 [H, W, C]. Its size is checked before its pixels take any memory."""
    height, width, channels = shape
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            size = (*picture.size, len(picture.getbands()))
            if size != (width, height, channels):
                raise ModelStoreError(f"{file}: has {size} pixels and channels: must have {(width, height, channels)}")
            return np.asarray(picture, np.uint8).reshape(shape)
    except ModelStoreError:
        raise
    except Exception as error:  # of many kinds, for a file that is no PNG
        raise ModelStoreError(f"{file}: is no picture that can be read ({error})") from error


def _check_nearness(servable: Servable, path: Path, nearness_db: float) -> None:
    needed_db = (servable.metadata.bfloat16_psnr_db or 0.0) - _PSNR_LOSS_DB
    if nearness_db < needed_db:
        raise ModelStoreError(
            f"{path}: in bfloat16 the golden seeds come within {nearness_db:.1f} dB of their pictures; "
            f"{needed_db:.1f} dB are needed, 3 less than where it was exported"
        )
