"""The check of the images that every measure takes: batches of uint8."""

import numpy as np
from numpy.typing import NDArray

from progan_service.errors import BadInputError


class ImageSetError(BadInputError):
    """Images that cannot be measured or compared; the message names the value and the rule."""


def check_images(images: NDArray[np.uint8], shape: tuple[int, ...] | None = None) -> None:
    """Check that a batch is uint8 [N, H, W, C] with C = 1 (grey) or 3 (RGB).

    If `shape` is given, [H, W, C] must equal it.

    Raises:
        ImageSetError: another type, number of axes, number of channels or shape.
    """
    if images.dtype != np.uint8:
        raise ImageSetError(f"images are {images.dtype}: they must be uint8, 0 to 255")
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ImageSetError(f"a batch is {list(images.shape)}: it must be [N, H, W, C] with 1 or 3 channels")
    if shape is not None and images.shape[1:] != shape:
        raise ImageSetError(
            f"an image is {list(images.shape[1:])}, those before it {list(shape)}: a set has images of one shape"
        )
