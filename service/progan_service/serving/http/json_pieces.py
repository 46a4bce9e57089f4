"""Pixels, numbers and files become JSON piece by piece, each within about a millisecond. Pure."""

import base64
import json
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

_LEVELS = 2**16  # of pixels that are written at a time, by table
_NUMBERS = 2**10  # that are written at a time, one by one
_BYTES = 3 * 2**17  # of a file that are written at a time; thirds of it have no padding in base64

LEVELS = tuple(map(str, range(256)))
UNIT = tuple(str(np.float32(level / 255)) for level in range(256))  # the same as numbers from 0 to 1


def levels(values: NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield the elements of a list of levels [N]."""
    for start in range(0, len(values), _LEVELS):
        piece = _text(_table(LEVELS)[values[start : start + _LEVELS]])
        yield piece if start else piece[1:]


def pixels(image: NDArray[np.uint8], texts: Sequence[str]) -> Iterator[bytes]:
    """Yield the rows of an image [H, W, C]: lists of lists of what `texts` has for each level."""
    cells, channels = _pixel_table(tuple(texts), image.shape[2]), np.arange(image.shape[2])
    step = max(1, _LEVELS // image[0].size)
    for start in range(0, len(image), step):
        rows = (b"[" + _text(cells[channels, row])[1:] + b"]" for row in image[start : start + step])
        yield (b"," if start else b"") + b",".join(rows)


def numbers(values: NDArray[np.float32]) -> Iterator[bytes]:
    """Yield the elements of a list of numbers [N]."""
    for start in range(0, len(values), _NUMBERS):
        piece = json.dumps(values[start : start + _NUMBERS].tolist(), separators=(",", ":")).encode()
        yield (b"," if start else b"") + piece[1:-1]


def file(content: bytes) -> Iterator[bytes]:
    """Yield a text in base64, with its quotes."""
    yield b'"'
    yield from in_base64(content)
    yield b'"'


def in_base64(content: bytes) -> Iterator[bytes]:
    view = memoryview(content)
    return (base64.b64encode(view[start : start + _BYTES]) for start in range(0, len(view), _BYTES))


def _text(cells: NDArray[np.bytes_]) -> bytes:
    return cells.tobytes().translate(None, b"\0")  # NumPy fills shorter texts up with zeros


@cache
def _table(texts: tuple[str, ...]) -> NDArray[np.bytes_]:
    """Return the texts [256], each with a comma before it."""
    return np.array([f",{text}" for text in texts], "S")


@cache
def _pixel_table(texts: tuple[str, ...], channels: int) -> NDArray[np.bytes_]:
    """Return the texts for each channel of a pixel [C, 256], with a comma and brackets around the pixel."""
    first, last = [",[", *[","] * (channels - 1)], [*[""] * (channels - 1), "]"]
    return np.array([[before + text + after for text in texts] for before, after in zip(first, last, strict=True)], "S")
