"""Peak signal-to-noise ratio: how near images are to others that they should equal."""

import math

import numpy as np
from numpy.typing import NDArray


def psnr_db(images: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """10 log10(255^2 / mean squared difference), of all images together; at most 99 dB."""
    noise = float(np.mean(np.square(images.astype(np.float64) - reference)))
    return round(10 * math.log10(255**2 / max(noise, 255**2 / 10**9.9)), 2)
