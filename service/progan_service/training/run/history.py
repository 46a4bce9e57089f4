"""What a run has been through, read from its directory without TensorFlow: the scalars of its event files."""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path

from progan_service.data.record import masked_crc32c
from progan_service.host.faults import named

Scalars = dict[str, dict[int, float]]  # name -> images shown -> value

_LARGEST_SCALAR = 4096  # bytes; a longer record holds a picture
_LENGTH, _CHECKSUM = struct.Struct("<Q"), 4


def read_scalars(run: Path, names: Collection[str]) -> Scalars:
    """Return these scalars of a run, by rising images shown. A value that was written again counts as the last one.

    A record that is not whole, as it is being written, ends its file. Raises FileError.
    """
    found: Scalars = {name: {} for name in names}
    for file in sorted((run / "tensorboard").glob("events.out.tfevents.*")):
        with named(file):
            content = file.read_bytes()
        for name, images_shown, value in _scalars_in(content):
            if name in found:
                found[name][images_shown] = value
    return {name: dict(sorted(values.items())) for name, values in found.items()}


def _scalars_in(content: bytes) -> Iterator[tuple[str, int, float]]:
    from tensorboard.compat.proto.event_pb2 import Event

    for record in _records(content):
        event = Event.FromString(record)
        for value in event.summary.value:
            numbers = value.tensor.float_val or _floats(value.tensor.tensor_content)
            if len(numbers) == 1:
                yield value.tag, event.step, numbers[0]


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the payloads of the whole records of a TFRecord file, without the large ones."""
    start = 0
    while start + _LENGTH.size + _CHECKSUM <= len(content):
        (length,) = _LENGTH.unpack_from(content, start)
        start += _LENGTH.size + _CHECKSUM
        end = start + length
        if end + _CHECKSUM > len(content):
            return
        if length <= _LARGEST_SCALAR:
            record = content[start:end]
            if masked_crc32c(record) != int.from_bytes(content[end : end + _CHECKSUM], "little"):
                return
            yield record
        start = end + _CHECKSUM


def _floats(content: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(content) // 4}f", content) if len(content) == 4 else ()
