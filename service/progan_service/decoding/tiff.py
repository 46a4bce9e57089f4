"""Finds the picture in a TIFF, and refuses by name what Pillow would decode wrongly or not at all.

The tags are those of TIFF 6.0 (1992) and its supplements.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from progan_service.decoding.errors import PictureError

# libtiff decodes uncompressed pictures too: Pillow's own decoder errs where colours are subsampled, or 16 bits deep in
# planes.
TiffImagePlugin.READ_LIBTIFF = True

_Tags = dict[int, tuple[int, ...]]  # of a page

_MAX_ENTRIES, _MAX_VALUES = 100_000, 16  # read of all directories, and of one tag
_CLASSIC, _BIG = ("H", "HHI4s", "I"), ("Q", "HHQ8s", "Q")  # number of entries, an entry, where the next directory is
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of numbers
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_UNSAID = -1

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _INK_SET, _SAMPLE_FORMAT = 277, 284, 332, 339
_DNG_VERSION = 50706
_READ = {
    *(_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC),
    *(_SAMPLES, _PLANAR, _INK_SET, _SAMPLE_FORMAT, _DNG_VERSION),
}

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_BITS_DECODED = {  # those of every sample
    _MIN_IS_WHITE: (1, 2, 4, 8, 16),
    _MIN_IS_BLACK: (1, 2, 4, 8, 12, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _CMYK: (8, 16),
    _YCBCR: (8,),
    _LAB: (8,),
}
_PHOTOMETRICS = {
    **{_MIN_IS_WHITE: "grey", _MIN_IS_BLACK: "grey", _RGB: "RGB", _PALETTE: "palette", _CMYK: "CMYK", _YCBCR: "YCbCr"},
    **{_LAB: "CIE L*a*b*", 4: "mask", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32844: "LogL", 32845: "LogLuv"},
    **{32803: "colour filter array", 34892: "linear raw"},
}
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}
_COMPRESSIONS_DECODED = {
    *(1, 2, 3, 4, 5),  # none, fax of three kinds, LZW
    *(7, 8, 32946, 32773, 34925, 50000),  # JPEG, Deflate of two numbers, PackBits, LZMA, Zstandard
}
_COMPRESSIONS = {6: "old-style JPEG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}


class Page(NamedTuple):
    """The page of a TIFF that is its picture.

    number        its number in the file, from 0
    bits          of each sample
    is_inverted   whether Pillow decodes it with black and white exchanged: grey of 16 bits where 0 is white
    """

    number: int
    bits: int
    is_inverted: bool


def picture_page(content: bytes) -> Page:
    """Return the page that is the picture: the first of the largest that are neither thumbnails nor masks.

    Raises:
        PictureError: the file has no such page, or its pixels are of a kind that is not decoded.
    """
    pages = list(_pages(content))
    if any(_DNG_VERSION in page for page in pages):
        raise PictureError("is a camera's raw file (DNG), which is not read: save it as PNG or JPEG")
    full = [page for page in pages if not _first(page, _SUBFILE_TYPE, 0) & (_REDUCED | _MASK)]
    if not full:
        raise PictureError("a TIFF without a full-size page, such as a camera's raw file: save it as PNG or JPEG")
    page = max(full, key=_area)  # the first one among equals
    _check(page)
    bits = max(_bits(page))
    return Page(pages.index(page), bits, bits == 16 and _first(page, _PHOTOMETRIC, _UNSAID) == _MIN_IS_WHITE)


def mended(image: Image.Image, page: Page) -> Image.Image:
    """Return the page as Pillow loaded it, with what Pillow gets wrong put right."""
    if image.mode in ("P", "PA") and image.palette is not None and not any(image.palette.palette):
        raise PictureError("a TIFF whose palette is all black, or of 8 bits where 16 are due: save it as PNG")
    if page.is_inverted:
        return Image.fromarray(65535 - np.asarray(image))
    return image


def _pages(content: bytes) -> Iterator[_Tags]:
    """Yield the tags of each page. A file of overlapping directories ends early: it could take any time and memory."""
    order = "<" if content.startswith(b"II") else ">"
    is_big = b"+" in content[2:4]
    count, entry, link = (struct.Struct(order + letters) for letters in (_BIG if is_big else _CLASSIC))
    (start,) = link.unpack_from(content, 8 if is_big else 4)
    seen: set[int] = set()
    budget = _MAX_ENTRIES
    while start and start not in seen:
        seen.add(start)
        (entries,) = count.unpack_from(content, start)
        budget -= entries + 1
        if budget < 0:
            return
        start += count.size
        end = start + entries * entry.size
        tags: _Tags = {}
        for tag, kind, amount, value in entry.iter_unpack(content[start:end]):
            if tag in _READ and kind in _LETTERS:
                tags.setdefault(tag, _values(content, order, _LETTERS[kind], amount, value, link))
        yield tags
        (start,) = link.unpack_from(content, end)


def _values(content: bytes, order: str, letter: str, amount: int, value: bytes, link: struct.Struct) -> tuple[int, ...]:
    """Return the first few values of a tag, which are in its entry or, if they do not fit, where the entry points."""
    array = struct.Struct(f"{order}{min(amount, _MAX_VALUES)}{letter}")
    if amount * struct.calcsize(f"{order}{letter}") <= link.size:
        return array.unpack_from(value)
    return array.unpack_from(content, link.unpack(value)[0])


def _first(page: _Tags, tag: int, default: int) -> int:
    return (page.get(tag) or (default,))[0]


def _area(page: _Tags) -> int:
    return _first(page, _WIDTH, 0) * _first(page, _HEIGHT, 0)


def _bits(page: _Tags) -> set[int]:
    return set(page.get(_BITS, (1,))[: _first(page, _SAMPLES, 1)])


def _check(page: _Tags) -> None:
    """Raise PictureError unless Pillow is known to decode the page, and right."""
    photometric, compression = _first(page, _PHOTOMETRIC, _UNSAID), _first(page, _COMPRESSION, 1)
    samples = _first(page, _SAMPLES, 1)
    formats = set(page.get(_SAMPLE_FORMAT, (1,))) - {1}
    bits = _bits(page)
    if photometric == _UNSAID:
        raise PictureError("a TIFF that does not say what its numbers mean (no photometric interpretation)")
    colours = _PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
    if photometric not in _BITS_DECODED:
        fault = f"of {colours} pixels"
    elif formats:
        fault = f"of {_SAMPLE_FORMATS.get(min(formats), 'unknown')} samples"
    elif len(bits) != 1 or min(bits) not in _BITS_DECODED[photometric]:
        fault = f"of {colours} with {' and '.join(map(str, sorted(bits)))} bits a sample"
    elif photometric == _CMYK and _first(page, _INK_SET, 1) != 1:
        fault = "of inks other than cyan, magenta, yellow and black"
    elif compression not in _COMPRESSIONS_DECODED:
        fault = f"compressed by {_COMPRESSIONS.get(compression, f'method {compression}')}"
    elif _first(page, _PLANAR, 1) == 2 and samples > 1 and photometric not in (_RGB, _CMYK):
        fault = f"of {colours} with its samples in separate planes"
    elif 16 in bits and photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK) and samples > 1:
        fault = "of grey with 16 bits a sample and alpha"
    else:
        return
    raise PictureError(f"a TIFF {fault}, which is not read: save it as PNG or JPEG")
