"""Images in rows, as one picture."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from progan_service.errors import ConfigError
from progan_service.host.files import replaced

READABLE = 64  # pixels: the side of the smallest image that is easy to see
MAX_PIXELS = 2**27  # 400 MB of RGB; a larger picture is a typing error
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_MAX_SIDES = {"WEBP": 16_383, "JPEG": 65_500, "GIF": 65_535, "MP4": 16_384}  # pixels
_QUALITY = 90  # of JPEG and WebP, as in the client

Pixels = NDArray[np.uint8]


def readable_scale(resolution: int) -> int:
    """Return the smallest whole factor that makes an image at least READABLE pixels wide."""
    return max(1, -(-READABLE // resolution))


def image_grid(images: Pixels, columns: int, scale: int = 1) -> Image.Image:
    """Return one picture of uint8 [N, H, W, C], row by row; cells without an image are white.

    scale   each pixel becomes a square of scale x scale pixels
    Raises ConfigError for a picture of more than MAX_PIXELS.
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    size = (columns * width * scale, rows * height * scale)
    if math.prod(size) > MAX_PIXELS:
        raise ConfigError(f"the picture would have {size[0]}x{size[1]} pixels: give a smaller --scale or fewer images")
    cells = np.full((rows * columns, height, width, channels), 255, np.uint8)
    cells[:count] = images
    sheet = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    return to_picture(enlarged(sheet.reshape(rows * height, columns * width, channels), scale))


def to_picture(pixels: Pixels) -> Image.Image:
    """Return uint8 [H, W, C] as a picture, grey or RGB."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def enlarged(pixels: Pixels, scale: int) -> Pixels:
    """Repeat each pixel as a square: uint8 [H, W, C] -> [H * scale, W * scale, C]."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def require_suffix(path: Path, suffixes: dict[str, str]) -> str:
    """Return the format of a file by its suffix. Raises ConfigError for a suffix that has none."""
    found = suffixes.get(path.suffix.lower())
    if found is None:
        *first, last = suffixes
        raise ConfigError(f"--output is {path}: must end in {', '.join(first)}{' or ' if first else ''}{last}")
    return found


def check_sides(path: Path, file_format: str, size: tuple[int, int]) -> None:
    """Raise ConfigError for a width or height that a format cannot have."""
    most = _MAX_SIDES.get(file_format, math.inf)
    if max(size) > most:
        raise ConfigError(
            f"--output is {path}: {file_format} has at most {most} pixels a side, not {size[0]}x{size[1]}"
        )


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of its suffix, in place of an earlier one. Raises ConfigError or FileError."""
    file_format = require_suffix(path, FORMATS)
    check_sides(path, file_format, picture.size)
    with replaced(path) as partial:
        picture.save(partial, file_format, **({} if file_format == "PNG" else {"quality": _QUALITY}))
