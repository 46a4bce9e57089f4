"""Finds the picture in a TIFF, and refuses by name what Pillow would decode wrongly or not at all.

The tags are those of TIFF 6.0 (1992) and its supplements.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from progan_service.data.errors import PictureError

# libtiff decodes uncompressed pictures too: Pillow's own decoder errs where colours are subsampled, or 16 bits deep in
# planes.
TiffImagePlugin.READ_LIBTIFF = True

_MAX_PAGES = 10_000
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _INK_SET, _SAMPLE_FORMAT = 277, 284, 332, 339
_DNG_VERSION = 50706

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
_COMPRESSIONS_DECODED = (
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    32773,
    32946,
    34925,
    50000,
)  # none, fax, LZW, JPEG, Deflate, LZMA, Zstandard
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
    full = [page for page in pages if not page.get(_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)]
    if not full:
        raise PictureError("a TIFF without a full-size page, such as a camera's raw file: save it as PNG or JPEG")
    page = max(full, key=_area)  # the first one among equals
    _check(page)
    bits = max(_bits(page))
    return Page(pages.index(page), bits, bits == 16 and page.get(_PHOTOMETRIC) == _MIN_IS_WHITE)


def mended(image: Image.Image, page: Page) -> Image.Image:
    """Return the page as Pillow loaded it, with what Pillow gets wrong put right."""
    if image.mode in ("P", "PA") and image.palette is not None and not any(image.palette.palette):
        raise PictureError("a TIFF whose palette is all black, or of 8 bits where 16 are due: save it as PNG")
    if page.is_inverted:
        return Image.fromarray(65535 - np.asarray(image))
    return image


def _pages(content: bytes) -> Iterator[ImageFileDirectory_v2]:
    file = io.BytesIO(content)
    header = content[:16] if b"+" in content[2:4] else content[:8]
    directory = ImageFileDirectory_v2(header)
    seen: set[int] = set()
    while (offset := directory.next) and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        file.seek(offset)
        directory = ImageFileDirectory_v2(header)
        directory.load(file)
        yield directory


def _area(page: ImageFileDirectory_v2) -> int:
    return int(page.get(_WIDTH, 0)) * int(page.get(_HEIGHT, 0))


def _bits(page: ImageFileDirectory_v2) -> set[int]:
    return set(page.get(_BITS, (1,))[: page.get(_SAMPLES, 1)])


def _check(page: ImageFileDirectory_v2) -> None:
    """Raise PictureError unless Pillow is known to decode the page, and right."""
    photometric, compression = page.get(_PHOTOMETRIC), page.get(_COMPRESSION, 1)
    formats = set(page.get(_SAMPLE_FORMAT, (1,))) - {1}
    bits = _bits(page)
    if photometric is None:
        raise PictureError("a TIFF that does not say what its numbers mean (no photometric interpretation)")
    colours = _PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
    if photometric not in _BITS_DECODED:
        fault = f"of {colours} pixels"
    elif formats:
        fault = f"of {_SAMPLE_FORMATS.get(min(formats), 'unknown')} samples"
    elif len(bits) != 1 or min(bits) not in _BITS_DECODED[photometric]:
        fault = f"of {colours} with {' and '.join(map(str, sorted(bits)))} bits a sample"
    elif photometric == _CMYK and page.get(_INK_SET, 1) != 1:
        fault = "of inks other than cyan, magenta, yellow and black"
    elif compression not in _COMPRESSIONS_DECODED:
        fault = f"compressed by {_COMPRESSIONS.get(compression, f'method {compression}')}"
    elif page.get(_PLANAR, 1) == 2 and page.get(_SAMPLES, 1) > 1 and photometric not in (_RGB, _CMYK):
        fault = f"of {colours} with its samples in separate planes"
    elif 16 in bits and photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK) and page.get(_SAMPLES, 1) > 1:
        fault = "of grey with 16 bits a sample and alpha"
    else:
        return
    raise PictureError(f"a TIFF {fault}, which is not read: save it as PNG or JPEG")
