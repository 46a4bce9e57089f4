"""Scores of something on a white background, such as the bundled fruits, to fit directions to.

    progan directions fit --store models --model fruits --scorer fruit_scores:scores

Run it where this file lies.
"""

import numpy as np
from numpy.typing import NDArray

BACKGROUND = 217  # and above, in all three channels
Values = NDArray[np.float64]


def scores(images: NDArray[np.uint8]) -> dict[str, Values]:
    """Return scores [N] of images [N, R, R, 3] by name. All but size and aspect are means over the foreground."""
    foreground = images.min(axis=-1) < BACKGROUND
    red, green, blue = np.moveaxis(images.astype(float), -1, 0)
    return {
        "size": foreground.mean(axis=(1, 2)),
        "brightness": _mean((red + green + blue) / 3, foreground),
        "redness": _mean(red - (green + blue) / 2, foreground),
        "aspect": np.log(_deviation(foreground, axis=2) / _deviation(foreground, axis=1)),
    }


def _mean(values: Values, foreground: NDArray[np.bool_]) -> Values:
    return np.asarray((values * foreground).sum(axis=(1, 2)) / np.maximum(foreground.sum(axis=(1, 2)), 1))


def _deviation(foreground: NDArray[np.bool_], *, axis: int) -> Values:
    """Return the standard deviation of the foreground's places along an axis, in pixels; at least one half."""
    places = np.arange(foreground.shape[axis], dtype=float)
    weights = foreground.sum(axis=3 - axis) / np.maximum(foreground.sum(axis=(1, 2)), 1)[:, None]
    middle = weights @ places
    return np.asarray(np.sqrt(np.maximum(weights @ places**2 - middle**2, 0.25)))
