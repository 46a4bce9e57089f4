"""A generator of the paper in NumPy, channels first, from its definition: what importers are held to."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Layer = tuple[Array, Array]  # a kernel [out, in, height, width], scaled already, and a bias
NumpyGenerator = Callable[..., Array]


@pytest.fixture(scope="session")
def numpy_generator() -> NumpyGenerator:
    """Draw images [N, C, R, R] of latents [N, L] in float64.

    first    the dense kernel [L, C, 4, 4], scaled already, and its bias, one a channel [C] or one a pixel [C, 4, 4]
    layers   the convolution of 4x4, then two for each doubling: one after it, and one more
    """

    def draw(latents: Array, first: Layer, layers: Sequence[Layer], to_rgb: Layer, epsilon: float = 1e-8) -> Array:
        def activated(x: Array) -> Array:
            return normed(np.maximum(x, 0.2 * x))

        def normed(x: Array) -> Array:
            return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + epsilon)

        dense, bias = first
        x = np.einsum("nl,lcyx->ncyx", normed(latents.astype(np.float64)), dense)
        x = activated(x + (bias if bias.ndim == 3 else bias[:, None, None]))
        for number, layer in enumerate(layers):
            x = activated(convolved(x.repeat(2, axis=2).repeat(2, axis=3) if number % 2 else x, *layer))
        return convolved(x, *to_rgb)

    return draw


def convolved(x: Array, kernel: Array, bias: Array) -> Array:
    """Correlate with zeros beyond the border, and add the bias."""
    size = kernel.shape[2]
    padded = np.pad(x, [(0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    return np.einsum("ncyxij,ocij->noyx", windows, kernel) + bias[:, None, None]
