"""How much the image changes along a walk, from one image to the next."""

import numpy as np
from numpy.typing import NDArray

from progan_service.evaluation.thumbnails import thumbnails


class Changes:
    """Compares images by their thumbnails as they come. Changes are root mean squares, in levels of 255.

    loop   whether the first image is compared with the last one, too
    """

    def __init__(self, *, loop: bool) -> None:
        self._loop = loop
        self._first: NDArray[np.float32] | None = None
        self._last: NDArray[np.float32] | None = None
        self._found: list[NDArray[np.float64]] = []

    def add(self, images: NDArray[np.uint8]) -> None:
        """Take the next images [N, R, R, C]."""
        small = thumbnails(images)
        if self._last is None:
            self._first = small[:1]
        else:
            small = np.concatenate([self._last, small])
        self._last = small[-1:]
        self._found.append(_rms(np.diff(small, axis=0)))

    def all(self) -> NDArray[np.float64]:
        """Return all changes [M]; in a loop the last one is that from the last image to the first."""
        assert self._first is not None
        assert self._last is not None
        back = [_rms(self._first - self._last)] if self._loop else []
        return np.concatenate([*self._found, *back])


def _rms(differences: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.mean(differences.astype(np.float64) ** 2, axis=1)))
