"""One resolution of a dataset: a TFRecord file read as an array, without TensorFlow.

Every record of a level has the same size, so the position of image i is known:

    u64 length | u32 crc | tf.Example {"shape": int64 (C,H,W), "data": uint8 CHW} | u32 crc

Protobuf allows both orders of the two features, so `data` starts at one of two places. Checksums of the pixels are not
verified, because that would read the whole file.
"""

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.host.faults import named

_HEADER_BYTES = 12  # length and its checksum
_FOOTER_BYTES = 4  # checksum of the payload
_FEATURE_ORDERS = 2  # "shape" first or "data" first


@dataclass(frozen=True, eq=False)
class Level:
    """All images of a dataset at one resolution.

    records       the bytes of the file [N, record_bytes], memory-mapped
    data_starts   [N], the position of the pixels within each record
    """

    path: Path
    resolution: int
    channels: int
    records: NDArray[np.uint8]
    data_starts: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path, resolution: int) -> Self:
        """Map a file `NAME-rNN.tfrecords` and check every record except its pixels.

        Raises:
            DatasetError: the file is truncated, is no TFRecord file, or contains other records than square images
                of this resolution with 1 or 3 channels.
        """
        mapped = _map(path)
        records = _as_records(path, mapped)
        try:
            frame = _Frame.parse(records[0])
        except _ForeignRecordError as error:
            raise DatasetError(
                f"{path}: {error}: a level holds tf.Examples with 'shape' and 'data', uncompressed"
            ) from None
        if frame.shape not in ((1, resolution, resolution), (3, resolution, resolution)):
            raise DatasetError(
                f"{path}: images have shape {frame.shape} (C,H,W): the file name promises "
                f"(1 or 3, {resolution}, {resolution})"
            )
        # This reads one page per record. Without the hint the system reads ahead, and so the whole file.
        _advise(mapped, "MADV_RANDOM")
        data_starts = _data_starts(path, records, frame)
        _advise(mapped, "MADV_NORMAL")
        return cls(path, resolution, frame.shape[0], records, data_starts)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.records)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return copies of the images at `indices` [N], each in [0, count), as uint8 [N, H, W, C]."""
        size = self.channels * self.resolution**2
        pixels = np.empty((len(indices), size), np.uint8)
        for row, index in zip(pixels, indices, strict=True):
            start = self.data_starts[index]
            row[:] = self.records[index, start : start + size]
        chw = pixels.reshape(-1, self.channels, self.resolution, self.resolution)
        return np.ascontiguousarray(chw.transpose(0, 2, 3, 1))


class _ForeignRecordError(Exception):
    """The bytes are no tf.Example of an image. The message follows the path in a sentence."""


@dataclass(frozen=True)
class _Frame:
    """The parts of a record other than its pixels: the shape of the image and the position of `data`."""

    shape: tuple[int, ...]  # (C, H, W)
    data_start: int
    data_bytes: int

    @classmethod
    def parse(cls, record: NDArray[np.uint8]) -> Self:
        view = record.data
        features = dict(_features(view))
        if features.keys() != {b"shape", b"data"}:
            raise _ForeignRecordError(f"a record has the features {sorted(features)}")
        shape = tuple(
            number
            for _, begin, end in _fields(view, *_field(view, *features[b"shape"], 3))  # Int64List.value
            for number in _varints(view, begin, end)
        )
        data_start, data_end = _field(view, *_field(view, *features[b"data"], 1), 1)  # BytesList.value
        if math.prod(shape) != data_end - data_start:
            raise _ForeignRecordError(f"a record has {data_end - data_start} bytes of data for shape {shape}")
        return cls(shape, data_start, data_end - data_start)


def _features(view: memoryview) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield the key and the span of each feature of the record's tf.Example."""
    features = _field(view, _HEADER_BYTES, len(view) - _FOOTER_BYTES, 1)  # Example.features
    for _, begin, end in _fields(view, *features):  # Features.feature, a map
        key_begin, key_end = _field(view, begin, end, 1)
        yield bytes(view[key_begin:key_end]), _field(view, begin, end, 2)


def _field(view: memoryview, start: int, end: int, number: int) -> tuple[int, int]:
    """Return the span of the first field with this number in the protobuf message view[start:end]."""
    for found, begin, stop in _fields(view, start, end):
        if found == number:
            return begin, stop
    raise _ForeignRecordError("a record is no tf.Example of an image")


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield each field of the protobuf message view[start:end] as (number, start, end) of its content."""
    while start < end:
        tag, start = _varint(view, start, end)
        if tag & 7 == 0:  # a bare varint: integers that were not packed
            _, stop = _varint(view, start, end)
        elif tag & 7 == 2:
            size, start = _varint(view, start, end)
            stop = start + size
        else:
            raise _ForeignRecordError("a record is no tf.Example of an image")
        if stop > end:
            raise _ForeignRecordError("a record is no tf.Example of an image")
        yield tag >> 3, start, stop
        start = stop


def _varints(view: memoryview, start: int, end: int) -> Iterator[int]:
    while start < end:
        value, start = _varint(view, start, end)
        yield value


def _varint(view: memoryview, start: int, end: int) -> tuple[int, int]:
    """Return the number at `start` and the position after it."""
    value = 0
    for place in range(start, min(end, start + 10)):
        value |= (view[place] & 0x7F) << 7 * (place - start)
        if view[place] < 0x80:
            return value, place + 1
    raise _ForeignRecordError("a record is no tf.Example of an image")


def _map(path: Path) -> mmap.mmap:
    with named(path), path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise DatasetError(f"{path}: the file is empty: a level holds at least one image") from None


def _advise(mapped: mmap.mmap, advice: str) -> None:
    if hasattr(mmap, advice):  # not on every system
        mapped.madvise(getattr(mmap, advice))


def _as_records(path: Path, mapped: mmap.mmap) -> NDArray[np.uint8]:
    """Return the file as [N, record_bytes], by the length that its first record states."""
    file_bytes = len(mapped)
    record_bytes = _HEADER_BYTES + int.from_bytes(mapped[:8], "little") + _FOOTER_BYTES
    if record_bytes > file_bytes:
        raise DatasetError(
            f"{path}: its first record would take {record_bytes} bytes and the file has {file_bytes}: "
            f"it is truncated or no uncompressed TFRecord file"
        )
    if file_bytes % record_bytes:
        raise DatasetError(
            f"{path}: {file_bytes} bytes are no whole number of records of {record_bytes} bytes: "
            f"the file is truncated or its images differ in size"
        )
    return np.frombuffer(mapped, np.uint8).reshape(-1, record_bytes)


def _data_starts(path: Path, records: NDArray[np.uint8], first: _Frame) -> NDArray[np.int64]:
    """Return the positions [N] of the pixels. Compares all other bytes with a parsed record of the same order."""
    other_length = np.flatnonzero((records[:, :_HEADER_BYTES] != records[0, :_HEADER_BYTES]).any(axis=1))
    if len(other_length):
        raise DatasetError(f"{path}: record {other_length[0]} has another length than record 0: all must be alike")
    starts = np.zeros(len(records), np.int64)
    pending = np.arange(len(records))
    for _ in range(_FEATURE_ORDERS):
        example = int(pending[0])
        try:
            frame = _Frame.parse(records[example])
        except _ForeignRecordError as error:
            raise DatasetError(f"{path}: record {example}: {error}") from None
        if frame.shape != first.shape:
            break
        begin, end = frame.data_start, frame.data_start + frame.data_bytes
        same = np.ones(len(pending), np.bool_)
        for part in (slice(0, begin), slice(end, -_FOOTER_BYTES)):
            same &= (records[pending, part] == records[example, part]).all(axis=1)
        starts[pending[same]] = begin
        pending = pending[~same]
        if not len(pending):
            return starts
    raise DatasetError(f"{path}: record {pending[0]} has another shape or features than record 0: all must be alike")
