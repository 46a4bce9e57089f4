"""Makes a decoded picture square."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
Background = Literal["white", "black"]


def to_square(
    image: Image.Image, resolution: int, fit: Fit, *, enlarge: bool = True, background: Background = "white"
) -> NDArray[np.uint8]:
    """Convert an RGB or grey picture to uint8 [resolution, resolution, 3 or 1].

    Args:
        image: of mode "RGB" or "L".
        resolution: of the square.
        fit: "crop" takes the centre square, "pad" the whole picture, with borders, and "stretch" all of it without.
        enlarge: whether what is smaller than the square is scaled up; else it gets borders on all sides.
        background: the colour of borders.
    """
    side = min(image.size)
    width, height = (side, side) if fit == "crop" else image.size
    left, top = (image.width - width) // 2, (image.height - height) // 2
    scale = resolution / max(width, height)
    if not enlarge:
        scale = min(scale, 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if fit == "stretch":
        size = (resolution, resolution)
    box = (left, top, left + width, top + height)
    inner = image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    square = Image.new(image.mode, (resolution, resolution), background)
    square.paste(inner, ((resolution - size[0]) // 2, (resolution - size[1]) // 2))
    return np.asarray(square).reshape(resolution, resolution, -1)
