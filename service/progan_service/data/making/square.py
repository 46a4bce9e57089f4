"""Makes a decoded picture square."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.errors import PictureError

Fit = Literal["crop", "pad"]

_WHITE = (255, 255, 255)


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
