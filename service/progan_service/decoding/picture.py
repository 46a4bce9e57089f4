"""Decodes a picture file of any kind to RGB: as a careful viewer would show it, or not at all.

The parts that a file's kind decides are in `kinds`, `tiff`, `coded_colour` and `jpeg2000`.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from progan_service.decoding import coded_colour, jpeg2000, tiff
from progan_service.decoding.colour import to_srgb
from progan_service.decoding.errors import DamagedPictureError, PictureError
from progan_service.decoding.kinds import is_decoded, may_be_tga, picture_kind, refusal
from progan_service.decoding.square import Background

_AMPLE = 3  # a picture keeps so many times the detail that is needed, until its colours are converted
_JPEG_END = b"\xff\xd9"
_FILLERS = (b"\x55\xa3\x1c" * 1000, b"\xb4\x0e\x69" * 1000)


class _Decoded(NamedTuple):
    """A picture as its file has it: its first frame or full-size page.

    profile   ICC profile of its colours, or None where they are those of sRGB
    depth     bits a sample, if they are more than 8
    """

    image: Image.Image
    profile: bytes | None
    depth: int = 8


def decode_rgb(content: bytes, background: Background = "white", enough: int | None = None) -> Image.Image:
    """Decode a picture as RGB in the colours of sRGB, upright by its orientation, without transparency.

    Of an animation the first frame is taken, of a TIFF the first full-size page. More than 8 bits a sample become 8.

    Args:
        content: the file.
        background: the colour behind transparent pixels.
        enough: a side in pixels. A picture whose shorter side is many times as long may be scaled down, for speed.

    Raises:
        PictureError: the content is no picture, of a kind that is not decoded, or far too large; a
            DamagedPictureError if it is broken.
    """
    kind = picture_kind(content) or ("TGA" if may_be_tga(content) else None)
    if kind != "TGA" and not is_decoded(kind):
        raise PictureError(refusal(content))
    assert kind is not None
    with _faults_named(kind):
        decoded = _DECODERS[kind](content) if kind in _DECODERS else _as_it_is(kind, content)
        upright = ImageOps.exif_transpose(decoded.image)
        image = _reduced(_to_8_bits(upright, decoded.depth), enough)
        return _opaque(to_srgb(image, decoded.profile, is_deep=decoded.depth > 8), background)


def _as_it_is(kind: str, content: bytes) -> _Decoded:
    image = _open(kind, content)
    image.load()
    return _Decoded(image, image.info.get("icc_profile"))


def _jpeg(content: bytes) -> _Decoded:
    try:
        return _as_it_is("JPEG", content)
    except OSError:
        # Only the end marker may be missing. Then whatever comes before it changes no pixel.
        body = content.removesuffix(b"\xff")
        decoded = _as_it_is("JPEG", body + _JPEG_END)
        filled = [_as_it_is("JPEG", body + filler + _JPEG_END) for filler in _FILLERS]
        if any(other.image.tobytes() != decoded.image.tobytes() for other in filled):
            raise
        return decoded


def _png(content: bytes) -> _Decoded:
    image, embedded = _as_it_is("PNG", content)[:2]
    depth, profile = coded_colour.png_colours(content, embedded)
    if (transparent := image.info.get("transparency")) is not None:
        if image.mode == "L":
            image.info["transparency"] = transparent * 255 // (2**depth - 1)  # Pillow leaves it at its few bits
        elif image.mode == "RGB" and depth == 16:
            raise PictureError("16 bits a sample and one transparent colour: save it with an alpha channel")
    return _Decoded(image, profile, depth)


def _tiff(content: bytes) -> _Decoded:
    page = tiff.picture_page(content)
    image = _open("TIFF", content)
    image.seek(page.number)
    image.load()
    return _Decoded(tiff.mended(image, page), image.info.get("icc_profile"), page.bits)


def _jpeg2000(content: bytes) -> _Decoded:
    profile = jpeg2000.profile(content)
    return _Decoded(_as_it_is("JPEG2000", content).image, profile)


def _avif(content: bytes) -> _Decoded:
    image, embedded = _as_it_is("AVIF", content)[:2]
    return _Decoded(image, embedded or coded_colour.nclx_profile(content))


def _heic(content: bytes) -> _Decoded:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise PictureError("is a HEIC picture: install progan-service[import] to read it, or save it as JPEG") from None
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    image, embedded = _as_it_is("HEIF", content)[:2]
    return _Decoded(image, embedded or coded_colour.nclx_profile(content))


_DECODERS: dict[str, Callable[[bytes], _Decoded]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "JPEG2000": _jpeg2000,
    "AVIF": _avif,
    "HEIC": _heic,
}


def _open(kind: str, content: bytes) -> Image.Image:
    Image.init()
    if kind not in Image.OPEN:
        raise PictureError(f"{kind} is not read by the Pillow that is installed: save it as PNG or JPEG")
    return Image.open(io.BytesIO(content), formats=[kind])


@contextmanager
def _faults_named(kind: str) -> Iterator[None]:
    """Raise PictureError for whatever Pillow raises."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of a damaged EXIF block, for instance
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except PictureError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PictureError(f"more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down first") from None
    except UnidentifiedImageError:
        raise DamagedPictureError(f"cannot be decoded: a damaged {kind}, or one of an unknown layout") from None
    except Exception as error:
        raise DamagedPictureError(f"cannot be decoded: {error}") from None


def _to_8_bits(image: Image.Image, depth: int) -> Image.Image:
    """Convert to the mode L, LA, RGB, RGBA, CMYK or LAB."""
    if image.mode == "F":
        raise PictureError("floating-point pixels: their range is unknown, save it with 8 bits")
    if image.mode.startswith("I"):
        return _grey_to_8_bits(image, depth)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("1", "L") and "transparency" in image.info:
        return image.convert("L").convert("LA") if image.mode == "1" else image.convert("LA")
    if image.has_transparency_data:
        return image.convert("RGBA") if image.mode not in ("LA", "RGBA") else image
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _grey_to_8_bits(image: Image.Image, depth: int) -> Image.Image:
    grey = np.asarray(image).astype(np.int64)
    maximum = 2**depth - 1 if depth > 8 else 65535
    if grey.min() < 0 or grey.max() > maximum:
        raise PictureError("pixels beyond 16 bits: save it with 8 or 16 bits a channel")
    rounded = Image.fromarray(np.rint(grey * 255 / maximum).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        rounded.putalpha(Image.fromarray(np.where(grey == transparent, 0, 255).astype(np.uint8)))
    return rounded


def _reduced(image: Image.Image, enough: int | None) -> Image.Image:
    """Scale down what has far more pixels than needed, by means over whole pixels: to convert colours takes a while."""
    factor = min(image.size) // (_AMPLE * enough) if enough else 1
    if factor < 2:
        return image
    if image.mode not in ("LA", "RGBA"):
        return image.reduce(factor)
    premultiplied = image.convert("RGBA").convert("RGBa")
    return premultiplied.reduce(factor).convert("RGBA").convert(image.mode)


def _opaque(image: Image.Image, background: Background) -> Image.Image:
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
