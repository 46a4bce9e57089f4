"""Images in rows and columns, as one picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GAP = 2  # pixels
_SMALLEST = 64  # pixels of a cell: smaller images are enlarged


def sheet(images: NDArray[np.uint8]) -> Image.Image:
    """Return images [rows, columns, R, R, C] as one picture, with white gaps."""
    scale = max(1, _SMALLEST // images.shape[2])
    cells = images.repeat(scale, axis=2).repeat(scale, axis=3)
    gap = ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0))
    rows, columns, height, width, channels = (padded := np.pad(cells, gap, constant_values=255)).shape
    picture = padded.swapaxes(1, 2).reshape(rows * height, columns * width, channels)[:-_GAP, :-_GAP]
    return Image.fromarray(picture[..., 0] if channels == 1 else picture)
