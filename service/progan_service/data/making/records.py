"""Writes a dataset directory: TFRecords that TensorFlow reads, made without it."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.data.making.pyramid import SMALLEST_RESOLUTION, box_pyramid
from progan_service.data.manifest import Manifest
from progan_service.data.record import FOOTER_BYTES, HEADER_BYTES, masked_crc32c
from progan_service.host.files import replaced

LARGEST_RESOLUTION = 1024

_BUFFER_BYTES = 2**20


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
    write_levels(directory, name, manifest.resolution, map(level_records, images))
    if labels is not None:
        write_labels(directory, name, labels)
    manifest.write(directory)


def write_levels(directory: Path, name: str, resolution: int, records: Iterable[bytes]) -> None:
    """Write the level files `NAME-rNN.tfrecords`.

    Args:
        directory: an existing directory.
        name: the dataset's name.
        resolution: height and width of the full images.
        records: of each image, as `level_records` gives them.
    """
    largest, smallest = resolution.bit_length() - 1, SMALLEST_RESOLUTION.bit_length() - 1
    with ExitStack() as stack:
        files = [
            stack.enter_context((directory / f"{name}-r{log2:02d}.tfrecords").open("wb", buffering=_BUFFER_BYTES))
            for log2 in range(largest, smallest - 1, -1)
        ]
        for image in records:
            start = 0
            for file in files:
                end = start + HEADER_BYTES + FOOTER_BYTES + int.from_bytes(image[start : start + 8], "little")
                file.write(image[start:end])
                start = end


def level_records(image: NDArray[np.uint8]) -> bytes:
    """Return a TFRecord for each level of an image [R, R, C], the largest first, one after the other.

    A record is u64 length | u32 checksum | tf.Example | u32 checksum.
    """
    return b"".join(map(_record, box_pyramid(image)))


def write_labels(directory: Path, name: str, labels: NDArray[np.float32]) -> None:
    """Write the label file `NAME-rxx.labels`, in place of an earlier one: float32 [N, L] as .npy, one row per image."""
    with replaced(directory / f"{name}-rxx.labels") as partial, partial.open("wb") as file:
        np.save(file, labels, allow_pickle=False)


def _record(image: NDArray[np.uint8]) -> bytes:
    example = _example(image.transpose(2, 0, 1))
    length = len(example).to_bytes(8, "little")
    return b"".join((length, _checksum(length), example, _checksum(example)))


def _checksum(content: bytes) -> bytes:
    return masked_crc32c(content).to_bytes(4, "little")


def _example(chw: NDArray[np.uint8]) -> bytes:
    """Return tf.Example {"data": the pixels, "shape": (C, H, W)}, as protobuf writes it with its keys in order."""
    data = _field(1, _field(1, chw.tobytes()))  # Feature.bytes_list, BytesList.value
    shape = _field(3, _field(1, b"".join(map(_varint, chw.shape))))  # Feature.int64_list, Int64List.value
    features = (_field(1, _field(1, key) + _field(2, value)) for key, value in ((b"data", data), (b"shape", shape)))
    return _field(1, b"".join(features))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    content.append(value)
    return bytes(content)
