"""Convolutions of one image at a time, with fewer multiplications than direct convolution.

A CPU multiplies matrices at its peak rate and moves memory slowly. So all arithmetic is in matrix products, including
the transforms of Winograd's algorithm, and one image (or a strip of it) at a time stays in the caches. The order of
summation does not depend on the batch.

Source of `Winograd`: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.model.layers import leaky_relu

Array = NDArray[np.floating]

# Transforms of inputs, kernel and products along one axis, by the number of outputs of a tile. The kernel has 3 taps.
WINOGRAD_INPUTS = {
    2: np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    4: np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
}
WINOGRAD_KERNEL = {
    2: np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    4: np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
}
WINOGRAD_OUTPUTS = {
    2: np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    4: np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
}


class Winograd(tf.Module):
    """A 3x3 convolution with stride 1 and SAME padding, and the activation: [1, H, W, C] -> [1, H, W, C'].

    tile   outputs of a tile along each axis, which must divide H and W. 2 takes 16 products for 4 outputs (directly:
           36); 4 takes 36 products for 16 outputs (directly: 144), and its rounding errors are ten times as large
    rows   output rows computed at once; must divide H
    """

    def __init__(self, kernel: Array, bias: Array, tile: int, rows: int, activations: str = "float32") -> None:
        """`kernel` [3, 3, C, C'] is scaled already; `activations` is the type of the features."""
        super().__init__()
        self.tile, self.rows = tile, rows
        both = np.kron(WINOGRAD_KERNEL[tile], WINOGRAD_KERNEL[tile])
        shape = (len(both), *kernel.shape[2:])
        self.kernel = variable((both @ kernel.reshape(9, -1).astype(np.float64)).reshape(shape), activations)
        self.bias = variable(bias, activations)
        self.inputs, self.outputs = (
            np.kron(WINOGRAD_INPUTS[tile], WINOGRAD_INPUTS[tile]),
            np.kron(WINOGRAD_OUTPUTS[tile], WINOGRAD_OUTPUTS[tile]),
        )

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        padded = tf.pad(x[0], [[1, 1], [1, 1], [0, 0]])
        strips = [self._strip(padded[top : top + self.rows + 2]) for top in range(0, x.shape[1], self.rows)]
        return leaky_relu(tf.nn.bias_add(tf.concat(strips, axis=0), self.bias))[None]

    def _strip(self, padded: tf.Tensor) -> tf.Tensor:
        """Convolve a padded strip: [rows + 2, W + 2, C] -> [rows, W, C']."""
        (height, width, channels), m = padded.shape, self.tile
        down, across = (height - 2) // m, (width - 2) // m
        pixels = tf.reshape(padded, [height * width, channels])
        tiles = tf.reshape(tf.gather(pixels, _tile_pixels(down, across, m)), [(m + 2) ** 2, -1])
        features = tf.reshape(
            tf.matmul(tf.constant(self.inputs, tiles.dtype), tiles), [(m + 2) ** 2, down * across, channels]
        )
        products = tf.reshape(tf.matmul(features, self.kernel), [(m + 2) ** 2, -1])
        phases = tf.reshape(tf.matmul(tf.constant(self.outputs, products.dtype), products), [m, m, down, across, -1])
        return tf.reshape(tf.transpose(phases, [2, 0, 3, 1, 4]), [height - 2, width - 2, self.kernel.shape[-1]])


def _tile_pixels(down: int, across: int, m: int) -> NDArray[np.int32]:
    """Return the indices of the pixels of a padded strip that belong to each tile, ordered by place in the tile."""
    top, left, row, column = np.ix_(np.arange(down) * m, np.arange(across) * m, np.arange(m + 2), np.arange(m + 2))
    pixels = (top + row) * (across * m + 2) + left + column
    return pixels.transpose(2, 3, 0, 1).reshape(-1).astype(np.int32)


class DifferenceUpscaling(tf.Module):
    """Nearest-neighbour upscaling by two, a 3x3 convolution (SAME) and the activation: [1, H, W, C] -> [1, 2H, 2W, C'].

    Along one axis, with the kernel (a, b, c) and s = a + b + c, the two outputs at x[i] are
    s x[i] - a (x[i] - x[i-1]) and s x[i] + c (x[i+1] - x[i]). That takes three products for two outputs, where direct
    convolution takes six and one kernel per phase takes four. Along both axes it takes nine instead of 36 or 16.
    """

    def __init__(self, kernel: Array, bias: Array, activations: str = "float32") -> None:
        """`kernel` [3, 3, C, C'] is scaled already; `activations` is the type of the features."""
        super().__init__()
        kernel = kernel.astype(np.float64)
        first, last, total = np.array([1, 0, 0]), np.array([0, 0, -1]), np.array([1, 1, 1])

        def products(*places: tuple[Array, Array]) -> tf.Variable:
            parts = [np.einsum("i,j,ijco->co", *place, kernel) for place in places]
            return variable(np.concatenate(parts, axis=-1), activations)

        self.level = products((total, total))
        self.down = products((first, total), (last, total))
        self.across = products((total, first), (total, last))
        self.diagonal = products((first, first), (first, last), (last, first), (last, last))
        self.bias = variable(bias, activations)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = x.shape
        padded = tf.pad(x[0], [[1, 1], [1, 1], [0, 0]])
        steps = padded[1:] - padded[:-1]  # down: [H + 1, W + 2, C]
        level = _product(x[0], self.level)
        down = _product(steps[:, 1:-1], self.down)
        across = _product(padded[1:-1, 1:] - padded[1:-1, :-1], self.across)
        diagonal = _product(steps[:, 1:] - steps[:, :-1], self.diagonal)
        rows = []
        for row in (0, 1):
            above = level - _part(down, row, 2)[row : row + height]
            phases = []
            for column in (0, 1):
                beside = _part(across, column, 2)[:, column : column + width]
                corner = _part(diagonal, 2 * row + column, 4)[row : row + height, column : column + width]
                # Never add three tensors at once: TensorFlow adds them in any order, as memory becomes free.
                phases.append(above - (beside - corner))
            rows.append(tf.stack(phases, axis=2))
        images = tf.reshape(tf.stack(rows, axis=1), [2 * height, 2 * width, level.shape[-1]])
        return leaky_relu(tf.nn.bias_add(images, self.bias))[None]


def _product(x: tf.Tensor, kernel: tf.Variable) -> tf.Tensor:
    """Multiply [H, W, C] by [C, C'] as one matrix product."""
    height, width, channels = x.shape
    return tf.reshape(tf.matmul(tf.reshape(x, [-1, channels]), kernel), [height, width, kernel.shape[-1]])


def _part(x: tf.Tensor, index: int, parts: int) -> tf.Tensor:
    """Return one of several equal parts of the last axis."""
    size = x.shape[-1] // parts
    return x[..., index * size : (index + 1) * size]


def variable(values: Array, activations: str) -> tf.Variable:
    """Return constant weights, rounded to the type of the features."""
    return tf.Variable(tf.cast(values, activations), trainable=False)
