"""One resolution of a dataset: a TFRecord file read as an array, without TensorFlow.

Every record of a level has the same size, so the position of image i is known. Protobuf allows both orders of the two
features, so the pixels start at one of two places within a record.

Opening reads the borders of the records: all but the pixels. Their checksums are noted, and the pixels are checked
against them whenever they are read. The file is read and not memory-mapped: when a mapped file is cut, the process ends
with SIGBUS.
"""

import hashlib
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.data.record import (
    FOOTER_BYTES,
    HEADER_BYTES,
    ForeignRecordError,
    Frame,
    masked_crc32c,
    record_bytes,
)
from progan_service.host.faults import named

_FEATURE_ORDERS = 2  # "shape" first or "data" first
_READ_AHEAD_BYTES = 2**16  # systems read ahead about as much


class _OpenFile:
    """A file that stays open for reading as long as this object lives. Any thread may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with named(path):
            self._descriptor = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)
            self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on. Raises DatasetError where the file ends before, OSError."""
        content = os.pread(self._descriptor, size, start)
        if len(content) < size:
            raise DatasetError(
                f"{self.path}: ends after {start + len(content)} of {self.size} bytes: it was cut while it was in use; "
                f"make or copy the dataset again"
            )
        return content

    def advise(self, advice: str) -> None:
        """Tell the system how the file is going to be read."""
        if hasattr(os, advice):  # not on every system
            os.posix_fadvise(self._descriptor, 0, 0, getattr(os, advice))


@dataclass(frozen=True, eq=False)
class Level:
    """All images of a dataset at one resolution.

    file           open for reading
    record_bytes   size of each record
    data_starts    [N], the position of the pixels within each record
    checksums      uint32 [N], those of the records when the file was opened
    """

    path: Path
    resolution: int
    channels: int
    file: _OpenFile
    record_bytes: int
    data_starts: NDArray[np.int64]
    checksums: NDArray[np.uint32]

    @classmethod
    def open(cls, path: Path, resolution: int) -> Self:
        """Open a file `NAME-rNN.tfrecords` and check every record except its pixels.

        Raises:
            DatasetError: the file is truncated, is no TFRecord file, or contains other records than square images
                of this resolution with 1 or 3 channels.
        """
        file = _OpenFile(path)
        with named(path):
            size = _record_bytes(file)
            frame = _frame(file, 0, size)
            if frame.shape not in ((1, resolution, resolution), (3, resolution, resolution)):
                raise DatasetError(
                    f"{path}: images have shape {frame.shape} (C,H,W): the file name promises "
                    f"(1 or 3, {resolution}, {resolution})"
                )
            heads, tails = _borders(file, size, size - frame.data_bytes)
            data_starts = _data_starts(file, size, frame, heads, tails)
        checksums = np.ascontiguousarray(tails[:, -FOOTER_BYTES:]).view("<u4")[:, 0]
        return cls(path, resolution, frame.shape[0], file, size, data_starts, checksums)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.checksums)

    @property
    def digest(self) -> str:
        """SHA-256 of the checksums of all records: it changes with any pixel, and no pixel is read for it."""
        return hashlib.sha256(self.checksums.tobytes()).hexdigest()

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return copies of the images at `indices` [N], each in [0, count), as uint8 [N, H, W, C].

        Raises:
            DatasetError: the file is cut, or an image is not what it was when the file was opened.
        """
        size = self.channels * self.resolution**2
        with named(self.path):
            records = [self.file.read(index * self.record_bytes, self.record_bytes) for index in indices.tolist()]
        self._check(records, indices)
        starts = self.data_starts[indices].tolist()
        pixels = b"".join(record[start : start + size] for record, start in zip(records, starts, strict=True))
        chw = np.frombuffer(pixels, np.uint8).reshape(-1, self.channels, self.resolution, self.resolution)
        return np.ascontiguousarray(chw.transpose(0, 2, 3, 1))

    def _check(self, records: list[bytes], indices: NDArray[np.int64]) -> None:
        found = [masked_crc32c(record[HEADER_BYTES:-FOOTER_BYTES]) for record in records]
        wrong = indices[np.array(found, np.uint32) != self.checksums[indices]]
        if len(wrong):
            raise DatasetError(
                f"{self.path}: record {wrong[0]} does not fit its checksum: it is damaged, or was changed while it was "
                f"in use; make or copy the dataset again"
            )


def _record_bytes(file: _OpenFile) -> int:
    """Return the size of each record of a file, by the length that its first one states."""
    if not file.size:
        raise DatasetError(f"{file.path}: the file is empty: a level holds at least one image")
    try:
        size = record_bytes(file.read(0, min(HEADER_BYTES, file.size)))
    except ForeignRecordError as error:
        raise DatasetError(f"{file.path}: {error}: it is damaged or no uncompressed TFRecord file") from None
    if size > file.size:
        raise DatasetError(
            f"{file.path}: its first record would take {size} bytes and the file has {file.size}: it is truncated"
        )
    if file.size % size:
        raise DatasetError(
            f"{file.path}: {file.size} bytes are no whole number of records of {size} bytes: "
            f"the file is truncated or its images differ in size"
        )
    return size


def _frame(file: _OpenFile, index: int, size: int) -> Frame:
    try:
        return Frame.parse(file.read(index * size, size))
    except ForeignRecordError as error:
        raise DatasetError(
            f"{file.path}: record {index}: {error}: a level holds tf.Examples with 'shape' and 'data'"
        ) from None


def _borders(file: _OpenFile, size: int, border: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the first and the last bytes of all records, each [N, border].

    The last bytes of a record are read together with the first ones of the next.
    """
    if size > _READ_AHEAD_BYTES:
        file.advise("POSIX_FADV_RANDOM")  # else the system would read the pixels as well
    between = (file.read(start - border, 2 * border) for start in range(size, file.size, size))
    content = b"".join((file.read(0, border), *between, file.read(file.size - border, border)))
    file.advise("POSIX_FADV_NORMAL")
    borders = np.frombuffer(content, np.uint8).reshape(-1, 2 * border)
    return borders[:, :border], borders[:, border:]


def _data_starts(
    file: _OpenFile, size: int, first: Frame, heads: NDArray[np.uint8], tails: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Return the positions [N] of the pixels. Compares all other bytes with a parsed record of the same order."""
    other_length = np.flatnonzero((heads[:, :HEADER_BYTES] != heads[0, :HEADER_BYTES]).any(axis=1))
    if len(other_length):
        raise DatasetError(f"{file.path}: record {other_length[0]} has another length than record 0: all must be alike")
    starts = np.zeros(len(heads), np.int64)
    pending = np.arange(len(heads))
    for _ in range(_FEATURE_ORDERS):
        example = int(pending[0])
        frame = _frame(file, example, size)
        if frame.shape != first.shape:
            break
        begin = frame.data_start
        same = (heads[pending, :begin] == heads[example, :begin]).all(axis=1)
        same &= (tails[pending, begin:-FOOTER_BYTES] == tails[example, begin:-FOOTER_BYTES]).all(axis=1)
        starts[pending[same]] = begin
        pending = pending[~same]
        if not len(pending):
            return starts
    raise DatasetError(
        f"{file.path}: record {pending[0]} has another shape or features than record 0: all must be alike"
    )
