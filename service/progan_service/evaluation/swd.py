"""Sliced Wasserstein distance (SWD) between patches of two sets of images, for each level of a Laplacian pyramid.

See section 5 of the paper. Patches are kept in temporary files, so memory does not grow with the size of the sets.
Positions and directions are pure functions of a seed: the same images give the same figures at every batch size.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from progan_service.evaluation.images import ImageSetError, check_images
from progan_service.host.files import temporary_files

SMALLEST_LEVEL = 16
PATCH_SIZE = 7
PATCHES_PER_IMAGE = 128
DESCRIPTOR_SIZE = 3 * PATCH_SIZE**2
REPEATS = 4
DIRECTIONS = 128

# The second word of the Philox key keeps these draws apart from each other and from other draws of the same seed.
_PATCHES = 0b110 << 61
_DIRECTIONS = 0b111 << 61

# Amounts held in memory at a time. They change figures by rounding at most.
_PIXELS_AT_ONCE = 2**15
_PATCHES_AT_ONCE = 2**13
_PROJECTIONS_AT_ONCE = 2**27  # float32 values of each set: 512 MiB


def level_resolutions(resolution: int) -> tuple[int, ...]:
    """Return the levels of a pyramid: resolution, resolution / 2, ... down to 16. Below 32 there is one level only.

    Raises:
        ImageSetError: a resolution below 7, where no patch fits, or one that does not halve evenly down to 16.
    """
    if resolution < PATCH_SIZE:
        raise ImageSetError(f"images are {resolution}x{resolution}: patches of 7x7 need at least 7 pixels")
    levels = [resolution]
    while levels[-1] >= 2 * SMALLEST_LEVEL:
        if levels[-1] % 2:
            raise ImageSetError(f"images are {resolution}x{resolution}: level {levels[-1]} does not halve evenly")
        levels.append(levels[-1] // 2)
    return tuple(levels)


def patch_centres(seed: int, draw: int, resolution: int, first: int, count: int) -> NDArray[np.int64]:
    """Return the centres (y, x) [count, 128, 2] of the patches of images first ... first + count - 1 at one level.

    They are uniform in [3, resolution - 4], and each is a pure function of (seed, draw, resolution, image). `draw`
    differs between the sets of a comparison.
    """
    counters = first * PATCHES_PER_IMAGE // 4  # a Philox counter gives four words, a patch takes one
    bits = np.random.Philox(key=_key(seed, _PATCHES + (draw << 32) + resolution), counter=counters)
    words: NDArray[np.uint64] = bits.random_raw(count * PATCHES_PER_IMAGE)
    halves = np.stack([words >> np.uint64(32), words & np.uint64(2**32 - 1)], axis=-1)
    positions = resolution - PATCH_SIZE + 1
    corners = (halves * np.uint64(positions)) >> np.uint64(32)
    return corners.astype(np.int64).reshape(count, PATCHES_PER_IMAGE, 2) + PATCH_SIZE // 2


def directions(seed: int, resolution: int, repeat: int) -> NDArray[np.float32]:
    """Return unit directions [128, 147], uniform on the sphere: a pure function of (seed, resolution, repeat)."""
    generator = np.random.Generator(np.random.Philox(key=_key(seed, _DIRECTIONS + (repeat << 32) + resolution)))
    rows = generator.standard_normal((DIRECTIONS, DESCRIPTOR_SIZE), np.float32)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def laplacian_pyramid(images: NDArray[np.float32], levels: int) -> list[NDArray[np.float32]]:
    """Return the levels [N, C, S, S], [N, C, S/2, S/2], ... of a Laplacian pyramid.

    Each level is the image at that size minus the next smaller one scaled up. The last level is the smallest image.
    """
    pyramid = [images]
    for _ in range(levels - 1):
        pyramid.append(pyramid_down(pyramid[-1]))
    return [fine - pyramid_up(coarse) for fine, coarse in pairwise(pyramid)] + pyramid[-1:]


def pyramid_down(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images [N, C, S/2, S/2]: filtered by [1 4 6 4 1]⊗[1 4 6 4 1] / 256 with mirrored edges, then halved."""
    return _narrower(_narrower(images).swapaxes(2, 3)).swapaxes(2, 3)


def pyramid_up(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images [N, C, 2S, 2S]: insert a zero after every pixel, then filter as `pyramid_down` does, times 4."""
    return _wider(_wider(images).swapaxes(2, 3)).swapaxes(2, 3)


def _narrower(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter along the rows and take every second row."""
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (0, 0)), mode="reflect")
    even, odd = padded[:, :, ::2], padded[:, :, 1::2]
    outer, inner = even[:, :, :-2] + even[:, :, 2:], odd[:, :, :-2] + odd[:, :, 1:-1]
    return (outer + 4 * inner + 6 * even[:, :, 1:-1]) * np.float32(1 / 16)


def _wider(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Insert a zero row after every row and filter. Even rows meet the weights 1 6 1, odd rows the weights 4 4."""
    # The edge is mirrored at the last zero row, so the last pixel row follows it once more.
    padded = np.concatenate([images[:, :, 1:2], images, images[:, :, -1:]], axis=2)
    wide = np.empty((*images.shape[:2], 2 * images.shape[2], images.shape[3]), np.float32)
    wide[:, :, ::2] = (padded[:, :, :-2] + 6 * images + padded[:, :, 2:]) * np.float32(1 / 8)
    wide[:, :, 1::2] = (images + padded[:, :, 2:]) * np.float32(1 / 2)
    return wide


class PatchSet:
    """The patches of one set of images, added batch by batch and kept in temporary files: 75 KB per image and level.

    It is a context manager; leaving it, or `close`, removes the files.
    """

    def __init__(self, *, seed: int, draw: int, scratch: Path | None = None) -> None:
        """Open an empty set.

        Args:
            seed: of the positions of the patches, in [0, 2^64).
            draw: the number of the set within a comparison; other numbers give other positions.
            scratch: the directory of the temporary files; None takes the system's default.

        Raises:
            ImageSetError: a seed outside [0, 2^64).
        """
        if not 0 <= seed < 2**64:
            raise ImageSetError(f"seed is {seed}: it must lie in [0, 2^64)")
        self._seed = seed
        self._draw = draw
        self._scratch = scratch
        self._levels: dict[int, _Level] = {}
        self._shape: tuple[int, ...] | None = None
        self._image_count = 0

    @property
    def image_count(self) -> int:
        """The number of images added so far."""
        return self._image_count

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions of the levels, largest first; empty before the first image."""
        return tuple(self._levels)

    def add(self, images: NDArray[np.uint8]) -> None:
        """Add 128 patches of each image [N, R, R, C] at each level. Grey counts as three equal channels.

        Raises:
            ImageSetError: images that are not uint8, not square, of another shape than before, or too small.
            FileError: the temporary files cannot be written.
        """
        check_images(images, self._shape)
        if self._shape is None:
            self._open(images.shape[1:])
        at_once = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
        for start in range(0, len(images), at_once):
            self._add(images[start : start + at_once])

    def close(self) -> None:
        """Remove the temporary files."""
        for level in self._levels.values():
            level.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def project(self, resolution: int, axes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised patches of one level projected on the axes [A, 147], as [A, 128 N] in image order."""
        return self._levels[resolution].project(axes)

    def _open(self, shape: tuple[int, ...]) -> None:
        height, width, _ = shape
        if height != width:
            raise ImageSetError(f"images are {height}x{width}: they must be square")
        for resolution in level_resolutions(height):
            with temporary_files(self._scratch):
                self._levels[resolution] = _Level(tempfile.TemporaryFile(dir=self._scratch))  # noqa: SIM115
        self._shape = shape

    def _add(self, images: NDArray[np.uint8]) -> None:
        colour = images.repeat(3 // images.shape[3], axis=3)
        pixels = np.ascontiguousarray(colour.transpose(0, 3, 1, 2), np.float32)  # [N, 3, R, R]
        pyramid = laplacian_pyramid(pixels, len(self._levels))
        for (resolution, level), pixels in zip(self._levels.items(), pyramid, strict=True):
            centres = patch_centres(self._seed, self._draw, resolution, self._image_count, len(images))
            level.append(_cut(pixels, centres))
        self._image_count += len(images)


class _Level:
    """The patches of one level in a file: float32 [P, 147], each three colour planes of 7x7."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._patch_count = 0
        self._normalisation: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def append(self, patches: NDArray[np.float32]) -> None:
        with temporary_files():
            self.file.write(patches.data)
        self._patch_count += len(patches)
        self._normalisation = None

    def project(self, axes: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, deviation = self._normalisation = self._normalisation or self._measure()
        projections = np.empty((len(axes), self._patch_count), np.float32)
        start = 0
        for patches in self._read():
            end = start + len(patches)
            normalised = patches - mean
            normalised /= deviation
            projections[:, start:end] = axes @ normalised.T
            start = end
        return projections

    def _measure(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and standard deviation of each colour over all patches, as rows [147]."""
        total, squares = np.zeros(3), np.zeros(3)
        for patches in self._read():
            planes = patches.astype(np.float64).reshape(len(patches), 3, -1)
            total += planes.sum(axis=(0, 2))
            squares += (planes**2).sum(axis=(0, 2))
        count = self._patch_count * PATCH_SIZE**2
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        deviation[deviation == 0] = 1.0  # a constant colour, as of a collapsed generator, becomes 0
        return _row(mean), _row(deviation)

    def _read(self) -> Iterator[NDArray[np.float32]]:
        self.file.seek(0)
        row_bytes = 4 * DESCRIPTOR_SIZE
        while content := self.file.read(_PATCHES_AT_ONCE * row_bytes):
            yield np.frombuffer(content, np.float32).reshape(-1, DESCRIPTOR_SIZE)


def sliced_wasserstein(
    a: PatchSet, b: PatchSet, *, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[int, float]:
    """Return SWD x 10^3 between two sets by the resolution of the level: the mean over 4 x 128 directions.

    The distance along one direction is the mean absolute difference of the sorted projections. `progress` takes
    (done, total), in directions over all levels.

    Raises:
        ImageSetError: an empty set, or sets that differ in their number of images or in their resolution.
    """
    _check_comparable(a, b)
    total = len(a.resolutions) * REPEATS * DIRECTIONS
    at_once = max(1, _PROJECTIONS_AT_ONCE // (a.image_count * PATCHES_PER_IMAGE))
    done = 0
    figures = {}
    with ThreadPoolExecutor() as pool:
        for resolution in a.resolutions:
            axes = np.concatenate([directions(seed, resolution, repeat) for repeat in range(REPEATS)])
            distances: list[float] = []
            for start in range(0, len(axes), at_once):
                some = axes[start : start + at_once]
                distances += pool.map(_distance, a.project(resolution, some), b.project(resolution, some))
                done += len(some)
                progress(done, total)
            figures[resolution] = 1000 * float(np.mean(distances))
    return figures


def _check_comparable(a: PatchSet, b: PatchSet) -> None:
    if not a.image_count or not b.image_count:
        raise ImageSetError("a set has no images: a distance needs at least one in each")
    if a.image_count != b.image_count:
        raise ImageSetError(f"sets have {a.image_count} and {b.image_count} images: they must have equally many")
    if a.resolutions != b.resolutions:
        first, second = a.resolutions[0], b.resolutions[0]
        raise ImageSetError(f"sets are of {first}x{first} and {second}x{second} pixels: they must be of one resolution")


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the mean distance of the sorted values of two sets along one direction; overwrites both."""
    a.sort()
    b.sort()
    np.subtract(a, b, out=a)
    return float(np.abs(a, out=a).mean(dtype=np.float64))


def _cut(pixels: NDArray[np.float32], centres: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the patches [128 N, 147] of a level [N, 3, S, S] around the centres [N, 128, 2]."""
    windows = sliding_window_view(pixels, (PATCH_SIZE, PATCH_SIZE), axis=(2, 3))
    corners = centres - PATCH_SIZE // 2
    image = np.arange(len(pixels))[:, None]
    patches = windows[image, :, corners[:, :, 0], corners[:, :, 1]]  # [N, 128, 3, 7, 7]
    return np.ascontiguousarray(patches.reshape(-1, DESCRIPTOR_SIZE))


def _row(colours: NDArray[np.float64]) -> NDArray[np.float32]:
    return colours.repeat(PATCH_SIZE**2).astype(np.float32)


def _key(seed: int, word: int) -> NDArray[np.uint64]:
    return np.array([seed, word], np.uint64)
