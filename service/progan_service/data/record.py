"""One record of a level, parsed without TensorFlow: a tf.Example of an image in the framing of TFRecord files.

u64 length | u32 checksum | tf.Example {"shape": int64 (C,H,W), "data": uint8 CHW} | u32 checksum
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import google_crc32c

HEADER_BYTES = 12  # length and its checksum
FOOTER_BYTES = 4  # checksum of the payload
_LENGTH_BYTES = 8


class ForeignRecordError(Exception):
    """The bytes are no tf.Example of an image. The message follows the path in a sentence."""


def record_bytes(header: bytes) -> int:
    """Return the size of a record, with its framing, that begins with these 12 bytes.

    Raises ForeignRecordError unless the length fits its checksum.
    """
    length, checksum = header[:_LENGTH_BYTES], int.from_bytes(header[_LENGTH_BYTES:HEADER_BYTES], "little")
    if len(header) < HEADER_BYTES or masked_crc32c(length) != checksum:
        raise ForeignRecordError("the length of a record does not fit its checksum")
    return HEADER_BYTES + int.from_bytes(length, "little") + FOOTER_BYTES


def masked_crc32c(content: bytes) -> int:
    """Return the checksum of TFRecord files: CRC-32C, rotated right by 15 bits, plus a constant."""
    crc: int = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """The parts of a record other than its pixels: the shape of the image and the position of `data`."""

    shape: tuple[int, ...]  # (C, H, W)
    data_start: int
    data_bytes: int

    @classmethod
    def parse(cls, record: bytes) -> Self:
        """Parse a whole record. Raises ForeignRecordError unless it is an image."""
        view = memoryview(record)
        features = dict(_features(view))
        if features.keys() != {b"shape", b"data"}:
            raise ForeignRecordError(f"a record has the features {sorted(features)}")
        shape = tuple(
            number
            for _, begin, end in _fields(view, *_field(view, *features[b"shape"], 3))  # Int64List.value
            for number in _varints(view, begin, end)
        )
        data_start, data_end = _field(view, *_field(view, *features[b"data"], 1), 1)  # BytesList.value
        if math.prod(shape) != data_end - data_start:
            raise ForeignRecordError(f"a record has {data_end - data_start} bytes of data for shape {shape}")
        return cls(shape, data_start, data_end - data_start)


def _features(view: memoryview) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield the key and the span of each feature of the record's tf.Example."""
    features = _field(view, HEADER_BYTES, len(view) - FOOTER_BYTES, 1)  # Example.features
    for _, begin, end in _fields(view, *features):  # Features.feature, a map
        key_begin, key_end = _field(view, begin, end, 1)
        yield bytes(view[key_begin:key_end]), _field(view, begin, end, 2)


def _field(view: memoryview, start: int, end: int, number: int) -> tuple[int, int]:
    """Return the span of the first field with this number in the protobuf message view[start:end]."""
    for found, begin, stop in _fields(view, start, end):
        if found == number:
            return begin, stop
    raise ForeignRecordError("a record is no tf.Example of an image")


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
            raise ForeignRecordError("a record is no tf.Example of an image")
        if stop > end:
            raise ForeignRecordError("a record is no tf.Example of an image")
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
    raise ForeignRecordError("a record is no tf.Example of an image")
