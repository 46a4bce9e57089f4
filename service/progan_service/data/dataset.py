"""A dataset directory: multi-resolution TFRecords as NVIDIA's tools write them, read without TensorFlow.

NAME-r02.tfrecords   4x4     uint8 images, one file per resolution up to the full one
NAME-r03.tfrecords   8x8
…
NAME-rxx.labels      optional: labels as .npy, float32 [N, L]
dataset.json         optional: provenance and label names
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.data.level import Level
from progan_service.data.manifest import Manifest
from progan_service.host.arrays import DamagedArrayError, read_array
from progan_service.host.faults import named
from progan_service.label_kind import LabelKind

_LEVEL_NAME = re.compile(r"(?P<name>.+)-r(?P<log2>\d\d)\.tfrecords", re.DOTALL)
_SMALLEST_LOG2 = 2


@dataclass(frozen=True, eq=False)
class Dataset:
    """An open dataset. Images are read on demand; labels are held in memory.

    levels        the file of each resolution: 4, 8, ... up to the full one
    labels        float32 [count, L], or None
    label_names   one per column of `labels`; the column numbers if the dataset has no names
    manifest      the provenance, or None
    """

    directory: Path
    name: str
    levels: dict[int, Level]
    labels: NDArray[np.float32] | None
    label_names: tuple[str, ...]
    manifest: Manifest | None

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a dataset directory and check that its files belong together.

        Raises:
            DatasetError: the directory does not exist or contains no dataset, a level is missing, truncated or of
                another dataset, or the labels do not fit.
        """
        name, paths = _find_levels(directory)
        levels = {2**log2: Level.open(path, 2**log2) for log2, path in paths.items()}
        manifest = Manifest.read(directory)
        full = levels[max(levels)]
        _check_agreement(full, levels, manifest)
        labels = _read_labels(directory / f"{name}-rxx.labels", full.count)
        return cls(directory, name, levels, labels, _label_names(directory, labels, manifest), manifest)

    @property
    def resolution(self) -> int:
        """Height and width of the full images in pixels."""
        return max(self.levels)

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.levels[self.resolution].channels

    @property
    def count(self) -> int:
        """Number of images."""
        return self.levels[self.resolution].count

    @property
    def label_kind(self) -> LabelKind:
        """What the labels are; classes if the dataset does not say."""
        return self.manifest.label_kind if self.manifest else "classes"

    @property
    def digest(self) -> str:
        """SHA-256 of the file of the 4x4 images."""
        smallest = self.levels[4]
        with named(smallest.path):
            return hashlib.sha256(smallest.file.read(0, smallest.file.size)).hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 by part: of the images "4x4", "8x8", ... by their checksums, and of the "labels" if there are any."""
        parts = {f"{resolution}x{resolution}": level.digest for resolution, level in self.levels.items()}
        if self.labels is None:
            return parts
        content = f"{self.labels.shape}".encode() + self.labels.astype("<f4").tobytes()
        return parts | {"labels": hashlib.sha256(content).hexdigest()}

    def level(self, resolution: int) -> Level:
        """Return the file of a resolution. Raises DatasetError when the dataset has no such resolution."""
        if resolution not in self.levels:
            raise DatasetError(f"{self.directory}: no images of resolution {resolution}: it has {sorted(self.levels)}")
        return self.levels[resolution]

    def images(self, indices: NDArray[np.int64], resolution: int) -> NDArray[np.uint8]:
        """Return the images at `indices` [N], in that order, as uint8 [N, resolution, resolution, channels].

        Raises:
            DatasetError: the dataset has no such resolution, or an index is outside [0, count).
        """
        level = self.level(resolution)
        outside = indices[(indices < 0) | (indices >= self.count)]
        if len(outside):
            raise DatasetError(f"{self.directory}: no image {outside[0]}: indices lie in [0, {self.count})")
        return level.images(indices)


def is_dataset(directory: Path) -> bool:
    """Return whether a directory has the files of a dataset, by their names."""
    return directory.is_dir() and any(_LEVEL_NAME.fullmatch(path.name) for path in directory.iterdir())


def _find_levels(directory: Path) -> tuple[str, dict[int, Path]]:
    """Return the name of the dataset and its level files by log2 of their resolution."""
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise DatasetError(f"{directory}: {what}: give a dataset directory, such as `progan dataset build` makes")
    matches = [match for path in directory.iterdir() if (match := _LEVEL_NAME.fullmatch(path.name))]
    if not matches:
        raise DatasetError(
            f"{directory}: no dataset: it holds no NAME-rNN.tfrecords files; make one with `progan dataset build`"
        )
    names = sorted({match["name"] for match in matches})
    if len(names) > 1:
        raise DatasetError(f"{directory}: several datasets ({', '.join(names)}): a directory holds one")
    paths = {int(match["log2"]): directory / match.string for match in matches}
    missing = [log2 for log2 in range(_SMALLEST_LOG2, max(paths)) if log2 not in paths]
    if missing:
        listed = ", ".join(f"{names[0]}-r{log2:02d}.tfrecords" for log2 in missing)
        raise DatasetError(f"{directory}: {listed} is missing: every level from 4x4 to the full one is needed")
    foreign = [path.name for log2, path in paths.items() if log2 < _SMALLEST_LOG2]
    if foreign:
        raise DatasetError(f"{directory}: {foreign[0]} is below r02: levels begin at 4x4")
    return names[0], dict(sorted(paths.items()))


def _check_agreement(full: Level, levels: dict[int, Level], manifest: Manifest | None) -> None:
    for level in levels.values():
        if (level.count, level.channels) != (full.count, full.channels):
            raise DatasetError(
                f"{level.path}: {level.count} images of {level.channels} channels, but {full.path.name} has "
                f"{full.count} of {full.channels}: all levels hold the same images"
            )
    if manifest is None:
        return
    promised, found = manifest.image_count, full.count
    if (manifest.resolution, promised) != (full.resolution, found):
        raise DatasetError(
            f"{full.path.parent}: dataset.json promises {promised} images up to {manifest.resolution} "
            f"pixels, the files hold {found} up to {full.resolution}: a level is missing or truncated"
        )
    if manifest.channels != full.channels:
        raise DatasetError(
            f"{full.path.parent}: dataset.json promises {manifest.channels} channels, the files hold {full.channels}: "
            f"they are of another dataset"
        )


def _read_labels(path: Path, count: int) -> NDArray[np.float32] | None:
    if not path.exists():
        return None
    try:
        with named(path):
            labels = read_array(path.read_bytes())
    except DamagedArrayError as error:
        raise DatasetError(f"{path}: labels are a float32 array in .npy format: {error}") from None
    if labels.dtype != np.float32 or labels.ndim != 2 or len(labels) != count:
        found = f"{labels.dtype} {list(labels.shape)}"
        raise DatasetError(f"{path}: {found} found, labels are float32 [{count}, L], one row per image")
    if not np.isfinite(labels).all():
        raise DatasetError(f"{path}: labels hold a NaN or an infinity: every value must be finite")
    return labels


def _label_names(directory: Path, labels: NDArray[np.float32] | None, manifest: Manifest | None) -> tuple[str, ...]:
    columns = 0 if labels is None else labels.shape[1]
    names = manifest.label_names if manifest else ()
    if names and len(names) != columns:
        raise DatasetError(
            f"{directory}: dataset.json names {len(names)} labels, the label file has {columns} columns: "
            f"both must agree"
        )
    return names or tuple(map(str, range(columns)))
