"""Converts a picture file of any kind, size and mode to a square RGB image."""

import io
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from progan_service.data.making.kinds import is_decoded, may_be_tga, picture_kind, refusal

Fit = Literal["crop", "pad"]

_WHITE = (255, 255, 255)


class PictureError(Exception):
    """A picture cannot be used. The message is the reason."""


def decode_rgb(content: bytes) -> Image.Image:
    """Decode the first frame as RGB, upright by its EXIF orientation, with transparency composed on white.

    16-bit grey is scaled to 8 bits. Colour profiles are not applied.

    Raises:
        PictureError: the picture is broken, of an unknown format or mode, or a possible decompression bomb.
    """
    kind = picture_kind(content) or ("TGA" if may_be_tga(content) else None)
    if kind != "TGA" and not is_decoded(kind):
        raise PictureError(refusal(content))
    Image.init()
    if kind not in Image.OPEN:
        raise PictureError(f"{kind} is not read by the Pillow that is installed: save it as PNG or JPEG")
    try:
        with warnings.catch_warnings(action="ignore"):  # of a damaged EXIF block, for instance
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=[kind])
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PictureError(f"more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down first") from None
    except UnidentifiedImageError:
        raise PictureError(f"cannot be decoded: a damaged {kind}, or one of an unknown layout") from None
    except Exception as error:
        raise PictureError(f"cannot be decoded: {error}") from None


def check_size(image: Image.Image, resolution: int, fit: Fit) -> None:
    """Raise PictureError if the picture would have to be scaled up."""
    side, name = (min(image.size), "shorter") if fit == "crop" else (max(image.size), "longer")
    if side < resolution:
        raise PictureError(f"{image.width}x{image.height} pixels: the {name} side must be at least {resolution}")


def to_square(image: Image.Image, resolution: int, fit: Fit) -> NDArray[np.uint8]:
    """Convert an RGB picture to uint8 [resolution, resolution, 3]: its centre square, or the whole on white."""
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return np.asarray(_resize(image, (resolution, resolution), (left, top, left + side, top + side)))
    scale = resolution / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new("RGB", (resolution, resolution), _WHITE)
    inner = _resize(image, (width, height), (0, 0, *image.size))
    square.paste(inner, ((resolution - width) // 2, (resolution - height) // 2))
    return np.asarray(square)


def _resize(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise PictureError("floating-point pixels: their range is unknown, save it with 8 bits")
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*_WHITE, 255)), layer)
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise PictureError("pixels beyond 16 bits: save it with 8 or 16 bits a channel")
    return Image.fromarray(np.rint(grey / 257).astype(np.uint8)).convert("RGB")
