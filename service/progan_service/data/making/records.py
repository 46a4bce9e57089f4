"""Writes a dataset directory. Only this module of the package needs TensorFlow, and only while it writes."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.data.making.pyramid import SMALLEST_RESOLUTION, box_pyramid
from progan_service.data.manifest import Manifest

LARGEST_RESOLUTION = 1024


def check_resolution(resolution: int) -> None:
    """Raise DatasetError unless `resolution` is a power of two from 4 to 1024."""
    power_of_two = resolution > 0 and resolution & (resolution - 1) == 0
    if not power_of_two or not SMALLEST_RESOLUTION <= resolution <= LARGEST_RESOLUTION:
        raise DatasetError(
            f"resolution is {resolution}: it must be a power of two from {SMALLEST_RESOLUTION} to {LARGEST_RESOLUTION}"
        )


def write_dataset(
    directory: Path,
    name: str,
    images: Iterable[NDArray[np.uint8]],
    manifest: Manifest,
    labels: NDArray[np.float32] | None = None,
) -> None:
    """Write the level files, the label file and `dataset.json` of a dataset into `directory`.

    Args:
        directory: an existing directory; see `files.new_directory`.
        name: the dataset's name, the first part of its file names.
        images: each uint8 [R, R, C] with the resolution and channels of the manifest; consumed one by one.
        manifest: the provenance.
        labels: float32 [N, L], one row per image, or None.
    """
    _write_levels(directory, name, images, manifest.resolution)
    if labels is not None:
        with (directory / f"{name}-rxx.labels").open("wb") as file:
            np.save(file, labels, allow_pickle=False)
    manifest.write(directory)


def _write_levels(directory: Path, name: str, images: Iterable[NDArray[np.uint8]], resolution: int) -> None:
    import tensorflow as tf  # takes seconds, and reading does not need it

    def example(image: NDArray[np.uint8]) -> bytes:
        chw = image.transpose(2, 0, 1)
        features = {
            "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=chw.shape)),
            "data": tf.train.Feature(bytes_list=tf.train.BytesList(value=[chw.tobytes()])),
        }
        message = tf.train.Example(features=tf.train.Features(feature=features))
        return bytes(message.SerializeToString(deterministic=True))

    largest = resolution.bit_length() - 1
    smallest = SMALLEST_RESOLUTION.bit_length() - 1
    paths = [directory / f"{name}-r{log2:02d}.tfrecords" for log2 in range(largest, smallest - 1, -1)]
    with ExitStack() as stack:
        writers = [stack.enter_context(tf.io.TFRecordWriter(str(path))) for path in paths]
        for image in images:
            for writer, level in zip(writers, box_pyramid(image), strict=True):
                writer.write(example(level))
