"""Pictures of callers become pixels. Pure. What a file says of its size is checked before its pixels are decoded."""

import io
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from progan_service.serving.errors import InvalidArgument

MAX_SIDE = 4096  # pixels

_ENOUGH = 3  # times the side that is wanted: more pixels do not make a scaled picture better
_FORMATS = ("PNG", "JPEG", "WEBP")


class Fit(StrEnum):
    """How a picture that is not square becomes square: its centre; all of it, with white borders; or stretched."""

    CROP = "CROP"
    PAD = "PAD"
    STRETCH = "STRETCH"


def decoded(content: bytes, side: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return a PNG, JPEG or WebP file as uint8 [side, side, channels], upright. What is transparent becomes white.

    Raise InvalidArgument about `picture`. The message holds nothing of the content.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(image)
            image.draft(None, (_ENOUGH * side, _ENOUGH * side))  # a large JPEG is decoded at a half, quarter or eighth
            ImageOps.exif_transpose(image, in_place=True)
            pixels = np.asarray(_square(_opaque(image), side, fit).convert("RGB" if channels == 3 else "L"))
    except InvalidArgument:
        raise
    except Exception as error:  # a damaged file leads Pillow to errors of many kinds
        raise InvalidArgument("picture", "is no PNG, JPEG or WebP file that can be read") from error
    return pixels.reshape(side, side, channels)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise InvalidArgument("picture", f"has {width} x {height} pixels; must have at most {MAX_SIDE} x {MAX_SIDE}")


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    with_alpha = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha).convert("RGB")


def _square(image: Image.Image, side: int, fit: Fit) -> Image.Image:
    """Return the picture as a square, scaled as datasets are."""
    shorter = min(image.size)
    width, height = (shorter, shorter) if fit is Fit.CROP else image.size
    left, top = (image.width - width) // 2, (image.height - height) // 2
    scale = side / max(width, height)
    size = (side, side) if fit is Fit.STRETCH else (max(1, round(width * scale)), max(1, round(height * scale)))
    box = (left, top, left + width, top + height)
    inner = image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    square = Image.new("RGB", (side, side), "white")
    square.paste(inner, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square
