"""Images whose figures under the original implementation of the metrics are known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Draw = Callable[[int, int, int], NDArray[np.uint8]]


@pytest.fixture(scope="session")
def draw_blocks() -> Draw:
    """Makes `count` images [count, size, size, 3]: blocks of 8x8 pixels in random colours, under some noise."""

    def draw(seed: int, count: int, size: int) -> NDArray[np.uint8]:
        random = np.random.RandomState(seed)
        blocks = random.rand(count, 3, size // 8, size // 8).repeat(8, axis=2).repeat(8, axis=3)
        images = (blocks * 200 + random.rand(count, 3, size, size) * 55).astype(np.uint8)
        return images.transpose(0, 2, 3, 1)

    return draw
