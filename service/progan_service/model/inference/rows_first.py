"""Blocks over features [H, N, W, C] (rows first), with fewer multiplications along the vertical axis.

Along one axis, the algorithms of `minimal_filtering` save less, but their transforms cost less too: one matrix product
with a constant adds rows of all images at once, and whole rows remain convolutions, which run at the peak rate.

Source of `RowWinograd`: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.model.inference.generator import Convolution, Layer, batch_and_rows_swapped, norm_factor, pixel_norm
from progan_service.model.inference.minimal_filtering import (
    WINOGRAD_INPUTS,
    WINOGRAD_KERNEL,
    WINOGRAD_OUTPUTS,
    Array,
    variable,
)
from progan_service.model.layers import leaky_relu

TILE = 4
STRIP = 32  # rows computed at once; the size of the transforms grows with the square of it
_BIASED = 1  # the index of the product that every output contains exactly once


class RowsFirstBlock(tf.Module):
    """RowUpscaling, then RowWinograd or RowConvolution: [H, N, W, C] -> [2H, N, 2W, C'], before the last pixel norm."""

    def __init__(self, upscaling: Layer, conv: Layer, epsilon: float) -> None:
        super().__init__()
        self.upscaling, self.conv, self.epsilon = upscaling, conv, epsilon

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = self.upscaling(pixel_norm(x, self.epsilon))
        inside = np.ones([x.shape[2], 1], np.float32)
        inside[[0, -1]] = 0.0
        return self.conv(x * tf.cast(norm_factor(x, self.epsilon) * inside, x.dtype))


class RowUpscaling(tf.Module):
    """Nearest-neighbour upscaling by two, a 3x3 convolution and its activation: [H, N, W, C] -> [2H, N, 2W + 2, C'].

    The first and the last column do not belong to the image.
    Vertically it uses differences, three products for two outputs (see DifferenceUpscaling); horizontally it uses one
    kernel per phase. That takes twelve products for four outputs, instead of 36 directly or 16 by phases.
    """

    def __init__(self, kernel: Array, bias: Array, activations: str = "float32") -> None:
        """`kernel` [3, 3, C, C'], scaled; `activations` is the type of the features."""
        super().__init__()
        kernel = kernel.astype(np.float64)
        # [tap, phase, place]: the outputs 2i - 1 and 2i lie between the columns x[i-1] and x[i].
        phases = np.array([[[1, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 1, 1]]])

        def products(*rows: int) -> tf.Variable:
            """Return a kernel [1, 2, C, 2C']."""
            narrow = np.einsum("tpx,y,yxio->tipo", phases, rows, kernel)
            return variable(narrow.reshape(1, 2, len(narrow[0]), -1), activations)

        self.level, self.above, self.below = products(1, 1, 1), products(-1, 0, 0), products(0, 0, 1)
        self.bias = variable(np.tile(bias, 2), activations)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        height, _, width, channels = x.shape
        steps = x[1:] - x[:-1]
        rows = tf.reshape(x, [-1, 1, width, channels])
        level = _between_columns(rows, self.level)
        outputs = []
        for parts, kernel in (([x[:1], steps], self.above), ([steps, -x[-1:]], self.below)):
            # Equal shapes tell TensorFlow that the sum needs no broadcasting, so it fuses the sum with the convolution.
            step = _between_columns(tf.reshape(tf.concat(parts, axis=0), tf.shape(rows)), kernel)
            output = leaky_relu(tf.nn.bias_add(step, self.bias) + level)
            outputs.append(tf.reshape(output, [height, -1, width + 1, self.bias.shape[0]]))
        return tf.reshape(tf.stack(outputs, axis=1), [2 * height, -1, 2 * width + 2, self.bias.shape[0] // 2])


def _between_columns(x: tf.Tensor, kernel: tf.Variable) -> tf.Tensor:
    """Convolve [N, 1, W, C] -> [N, 1, W + 1, 2C'], with zeros beyond the border."""
    return tf.nn.conv2d(x, kernel, strides=1, padding=[[0, 0], [0, 0], [1, 1], [0, 0]])


class RowWinograd(tf.Module):
    """A 3x3 convolution with stride 1 and its activation: [H, N, W + 2, C] -> [H, N, W, C'].

    The first and the last column must be zeros; rows beyond the border count as zeros.
    Vertically it uses Winograd's algorithm, six products for four outputs instead of twelve; horizontally it is a
    direct convolution. H must be a multiple of 4, and above 32 of 32.
    """

    def __init__(self, kernel: Array, bias: Array, activations: str = "float32") -> None:
        """`kernel` [3, 3, C, C'], scaled; `activations` is the type of the features."""
        super().__init__()
        kernels = np.einsum("py,yxio->pxio", WINOGRAD_KERNEL[TILE], kernel.astype(np.float64))
        self.kernels = [variable(kernel[None], activations) for kernel in kernels]
        self.bias = variable(bias, activations)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        rows = min(x.shape[0], STRIP)
        return tf.concat([self._strip(x, top, rows) for top in range(0, x.shape[0], rows)], axis=0)

    def _strip(self, x: tf.Tensor, top: int, rows: int) -> tf.Tensor:
        """Return `rows` rows of the outputs, from `top` on."""
        (height, _, width, channels), tiles = x.shape, rows // TILE
        first, last = max(0, top - 1), min(height, top + rows + 1)
        transform = tf.constant(_inputs(tiles)[:, first - top + 1 : last - top + 1], x.dtype)
        inputs = tf.matmul(transform, tf.reshape(x[first:last], [last - first, -1]))
        inputs = tf.reshape(inputs, [TILE + 2, tiles, -1, width, channels])
        products = [tf.nn.conv2d(inputs[i], kernel, 1, padding="VALID") for i, kernel in enumerate(self.kernels)]
        products[_BIASED] = tf.nn.bias_add(products[_BIASED], self.bias)
        together = tf.reshape(tf.concat(products, axis=0), [(TILE + 2) * tiles, -1])
        outputs = tf.matmul(tf.constant(_outputs(tiles), x.dtype), together)
        return leaky_relu(tf.reshape(outputs, [rows, -1, width - 2, self.bias.shape[0]]))


class RowConvolution(tf.Module):
    """A direct 3x3 convolution with stride 1 and its activation: [H, N, W + 2, C] -> [H, N, W, C'], as RowWinograd.

    It rearranges the features to images first and back. That is faster where features are few.
    """

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.conv = conv

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        images = batch_and_rows_swapped(x)
        images = tf.nn.conv2d(images, self.conv.kernel, strides=1, padding=[[0, 0], [1, 1], [0, 0], [0, 0]])
        return batch_and_rows_swapped(leaky_relu(tf.nn.bias_add(images, self.conv.bias)))


def _inputs(tiles: int) -> NDArray[np.floating]:
    """Return the matrix that transforms the rows of some tiles, and one more at each end, to the inputs of products."""
    shifts = [np.eye(TILE + 2, tiles * TILE + 2, k=tile * TILE) for tile in range(tiles)]
    return np.concatenate([row @ np.stack(shifts) for row in WINOGRAD_INPUTS[TILE]])


def _outputs(tiles: int) -> NDArray[np.floating]:
    """Return the matrix that transforms the products of some tiles to their output rows."""
    return np.concatenate([np.kron(WINOGRAD_OUTPUTS[TILE], unit) for unit in np.eye(tiles)])
