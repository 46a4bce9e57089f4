"""Peak signal-to-noise ratio: how close images are to a reference."""

import math

import numpy as np
from numpy.typing import NDArray


def psnr_db(images: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Return 10 log10(255^2 / mean squared difference) over all images together, in dB; at most 99."""
    noise = float(np.mean(np.square(images.astype(np.float64) - reference)))
    return round(10 * math.log10(255**2 / max(noise, 255**2 / 10**9.9)), 2)
