"""Makes a decoded picture square."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.errors import PictureError

Fit = Literal["crop", "pad"]
Small = Literal["refuse", "pad", "enlarge"]
Background = Literal["white", "black"]
Channels = Literal[3, 1]


def check_size(image: Image.Image, resolution: int, fit: Fit) -> None:
    """Raise PictureError if the picture would have to be scaled up."""
    side, name = (min(image.size), "shorter") if fit == "crop" else (max(image.size), "longer")
    if side < resolution:
        raise PictureError(f"{image.width}x{image.height} pixels: the {name} side must be at least {resolution}")


def to_square(
    image: Image.Image, resolution: int, fit: Fit, small: Small = "enlarge", background: Background = "white"
) -> NDArray[np.uint8]:
    """Convert an RGB or grey picture to uint8 [resolution, resolution, 3 or 1].

    Args:
        image: of mode "RGB" or "L".
        resolution: of the square.
        fit: "crop" takes the centre square, "pad" the whole picture, with borders.
        small: whether what is smaller than the square gets borders on all sides ("pad") or is scaled up ("enlarge").
        background: the colour of borders.
    """
    side = min(image.size)
    width, height = (side, side) if fit == "crop" else image.size
    left, top = (image.width - width) // 2, (image.height - height) // 2
    scale = resolution / max(width, height)
    if small == "pad":
        scale = min(scale, 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    box = (left, top, left + width, top + height)
    inner = image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    square = Image.new(image.mode, (resolution, resolution), background)
    square.paste(inner, ((resolution - size[0]) // 2, (resolution - size[1]) // 2))
    return np.asarray(square).reshape(resolution, resolution, -1)
