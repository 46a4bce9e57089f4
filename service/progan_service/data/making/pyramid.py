"""Scales an image to every resolution down to 4x4, by 2x2 box means."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SMALLEST_RESOLUTION = 4


def box_pyramid(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the image [R, R, C], then R/2, R/4, ... down to 4x4, each uint8 [H, W, C]. R is a power of two.

    Each level is rounded (half to even) from unrounded means, so it is the rounded mean of full-resolution pixels.
    """
    means = image.astype(np.float32)
    while True:
        yield np.rint(means).clip(0, 255).astype(np.uint8)
        size = len(means) // 2
        if size < SMALLEST_RESOLUTION:
            return
        means = means.reshape(size, 2, size, 2, -1).mean(axis=(1, 3))
