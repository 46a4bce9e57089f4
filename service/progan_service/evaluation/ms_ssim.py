"""Multi-scale structural similarity (MS-SSIM) of pairs of images, after Wang et al. 2003.

The mean over random pairs of one set measures its variety. It should be near that of the reals; above it, the generator
repeats itself. `tf.image.ssim_multiscale` does not work below about 176 pixels: its window does not shrink with the
image.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from progan_service.evaluation.images import ImageSetError, check_images

_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # of the scales, finest first; their sum is 1.0001
_WINDOW_SIZE = 11
_WINDOW_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2
_PIXELS_AT_ONCE = 2**15


def ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the MS-SSIM [N] of the pairs a[i], b[i] of images [N, H, W, C]: 1 for equal images, less for others.

    It is the product of the contrast-structure terms of the first four scales and the SSIM of the fifth, each raised to
    its weight. Each scale is the one before, reduced by 2x2 means. The last row or column of an odd size counts twice,
    so every size has five scales.

    Raises:
        ImageSetError: images that are not uint8 [N, H, W, C], or two batches that differ in shape.
    """
    check_images(a)
    check_images(b)
    if a.shape != b.shape:
        raise ImageSetError(f"batches are {list(a.shape)} and {list(b.shape)}: pairs need equal shapes")
    at_once = max(1, _PIXELS_AT_ONCE // (a.shape[1] * a.shape[2]))
    pieces = [np.empty(0)]
    for start in range(0, len(a), at_once):
        pieces.append(_ms_ssim(_planes(a[start : start + at_once]), _planes(b[start : start + at_once])))
    return np.concatenate(pieces)


class PairSimilarity:
    """Computes the mean MS-SSIM of one set of images, added batch by batch. Image 2i is paired with image 2i + 1."""

    def __init__(self) -> None:
        self._unpaired: NDArray[np.uint8] | None = None  # [0 or 1, H, W, C]
        self._similarities: list[NDArray[np.float64]] = []

    def add(self, images: NDArray[np.uint8]) -> None:
        """Add images [N, H, W, C]. If the last one has no partner yet, it waits for the next batch.

        Raises:
            ImageSetError: images that are not uint8 or not shaped like those before.
        """
        if self._unpaired is None:
            check_images(images)
        else:
            check_images(images, self._unpaired.shape[1:])
            images = np.concatenate([self._unpaired, images])
        paired = len(images) // 2 * 2
        self._similarities.append(ms_ssim(images[0:paired:2], images[1:paired:2]))
        self._unpaired = images[paired:].copy()

    def mean(self) -> float:
        """Return the mean over all pairs; an unpaired last image is left out.

        Raises:
            ImageSetError: fewer than two images.
        """
        similarities = np.concatenate([np.empty(0), *self._similarities])
        if not len(similarities):
            raise ImageSetError("a set has fewer than 2 images: MS-SSIM compares pairs")
        return float(similarities.mean())


def _ms_ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    product = np.ones(len(a))
    last = len(_WEIGHTS) - 1
    for scale, weight in enumerate(_WEIGHTS):
        ssim, contrast = _ssim(a, b)
        product *= np.maximum(ssim if scale == last else contrast, 0.0) ** weight
        if scale < last:
            a, b = _halved(a), _halved(b)
    return product


def _ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means [N] of the SSIM map and of its contrast-structure part at one scale [N, C, H, W]."""
    mean_a, mean_b = _windowed(a), _windowed(b)
    squares, products = _windowed(a * a + b * b), _windowed(a * b)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    contrast = (2 * (products - mean_a * mean_b) + _C2) / (squares - mean_a**2 - mean_b**2 + _C2)
    return (luminance * contrast).mean(axis=(1, 2, 3)), contrast.mean(axis=(1, 2, 3))


def _windowed(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Gaussian-weighted means of [N, C, H, W] at all places where the window fits: 11x11, or the image size."""
    size = min(_WINDOW_SIZE, *planes.shape[2:])
    sigma = _WINDOW_SIGMA * size / _WINDOW_SIZE
    weights = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    for axis in (2, 3):
        planes = sliding_window_view(planes, size, axis=axis) @ weights
    return planes


def _halved(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 2x2 means of [N, C, H, W]."""
    height, width = planes.shape[2:]
    even = np.pad(planes, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    rows = even[:, :, ::2] + even[:, :, 1::2]
    mean: NDArray[np.float64] = (rows[..., ::2] + rows[..., 1::2]) / 4
    return mean


def _planes(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float64)  # [N, C, H, W]
