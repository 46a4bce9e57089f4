"""Thumbnails: what is left of an image for whoever compares many of them."""

import numpy as np
from numpy.typing import NDArray

SIZE = 16  # pixels


def thumbnails(images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images [N, R, R, C] as rows of floats [N, 16 * 16 * C] of the same range: means of squares of pixels.

    R is a power of two. Images below 16x16 stay as they are.
    """
    count, resolution, _, channels = images.shape
    size = min(resolution, SIZE)
    each = resolution // size
    squares = images.reshape(count, size, each, size, each, channels)
    return np.asarray(squares.mean(axis=(2, 4), dtype=np.float32)).reshape(count, -1)
