"""Makes a labelled dataset of drawn faces without any download, for `progan dataset demo`."""

import csv
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.data.making.faces import ATTRIBUTE_VALUES, FaceAttributes, draw_face
from progan_service.data.making.labels.labels import Labels
from progan_service.data.making.records import check_resolution, write_dataset
from progan_service.data.manifest import Manifest
from progan_service.host.files import new_directory
from progan_service.progress import Progress

ATTRIBUTES_FILE_NAME = "attributes.csv"

_YES_OR_NO = frozenset({"glasses", "smile"})  # attributes that a face has or has not
_FACE = 3 << 62  # second word of the Philox key: separates faces from orders and latents of the same seed


def face_attributes(seed: int, index: int) -> FaceAttributes:
    """Return the attributes of image `index` of the demo dataset of this seed: a pure function of both."""
    key = np.array([seed, _FACE + index], np.uint64)
    return FaceAttributes.random(np.random.Generator(np.random.Philox(key=key)))


def build_demo(
    out: Path, resolution: int, count: int, seed: int, progress: Progress, label: str = "glasses"
) -> Manifest:
    """Make the dataset directory `out` of drawn faces. It appears complete or not at all.

    It also contains `attributes.csv`: all attributes of every face, one row per image in the order of the dataset.

    Args:
        out: the new directory; its name becomes the dataset's.
        resolution: height and width of the full images: a power of two from 4 to 1024.
        count: number of images, at least 1.
        seed: in [0, 2^64); image i is a pure function of the seed and i.
        progress: called with ("Drawing", done, count) after each image.
        label: a key of `faces.ATTRIBUTE_VALUES`, whose values become classes; or several of glasses and smile,
            separated by commas, which become attributes.

    Raises:
        DatasetError: an argument is out of range.
        ConfigError: `out` exists.
        FileError: `out` cannot be written.
    """
    _check_arguments(resolution, count, seed, label)
    faces = [face_attributes(seed, index) for index in range(count)]
    labels = _attributes(faces, label) if "," in label else _classes(faces, label)
    manifest = Manifest(
        f"drawn faces, seed {seed}",
        count,
        resolution,
        label=label,
        label_names=labels.names,
        label_kind=labels.kind,
    )
    with new_directory(out) as directory:
        images = _drawn(faces, resolution, progress)
        write_dataset(directory, out.resolve().name, images, manifest, labels.values)
        _write_attributes(directory / ATTRIBUTES_FILE_NAME, faces)
    return manifest


def _classes(faces: list[FaceAttributes], label: str) -> Labels:
    """Return the values of an attribute as classes, ordered as `faces.ATTRIBUTE_VALUES`."""
    values = ATTRIBUTE_VALUES[label]
    given = [getattr(face, label) for face in faces]
    columns = [int(value) if isinstance(value, bool) else values.index(value) for value in given]
    return Labels(np.eye(len(values), dtype=np.float32)[columns], values, "classes")


def _attributes(faces: list[FaceAttributes], label: str) -> Labels:
    names = tuple(label.split(","))
    values = [[float(getattr(face, name)) for name in names] for face in faces]
    return Labels(np.array(values, np.float32), names, "attributes")


def _check_arguments(resolution: int, count: int, seed: int, label: str) -> None:
    check_resolution(resolution)
    if count < 1:
        raise DatasetError(f"count is {count}: a dataset holds at least one image")
    if not 0 <= seed < 2**64:
        raise DatasetError(f"seed is {seed}: it must lie in [0, 2^64)")
    names = label.split(",")
    if len(names) > 1 and (len(set(names)) < len(names) or not _YES_OR_NO.issuperset(names)):
        raise DatasetError(
            f"label is {label!r}: several labels must be some of {', '.join(sorted(_YES_OR_NO))}, each once"
        )
    if len(names) == 1 and label not in ATTRIBUTE_VALUES:
        raise DatasetError(f"label is {label!r}: it must be one of {', '.join(ATTRIBUTE_VALUES)}")


def _drawn(faces: list[FaceAttributes], resolution: int, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    for done, face in enumerate(faces, start=1):
        yield np.asarray(draw_face(face, resolution))
        progress("Drawing", done, len(faces))


def _write_attributes(path: Path, faces: list[FaceAttributes]) -> None:
    """Write booleans as 0 and 1, and numbers so that they read back exactly."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(field.name for field in fields(FaceAttributes))
        for face in faces:
            table.writerow(int(value) if isinstance(value, bool) else value for value in asdict(face).values())
