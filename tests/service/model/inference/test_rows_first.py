"""Blocks of features whose rows come first, against their definition and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.model.inference.generator import Convolution, batch_and_rows_swapped
from progan_service.model.inference.rows_first import RowConvolution, RowsFirstBlock, RowUpscaling, RowWinograd
from progan_service.model.layers import EqualizedConv2D, leaky_relu, pixel_norm, upscale2

Array = NDArray[np.float32]

EPSILON = 0.1  # of the pixel norm, large enough to be seen
NO_BIAS = np.zeros(1, np.float32)
ONE_TO_NINE = np.arange(1, 10, dtype=np.float32).reshape(3, 3, 1, 1)


def features(*shape: int) -> tf.Tensor:
    return tf.random.stateless_normal(shape, [5, 0])


def weights(inputs: int, outputs: int) -> tuple[Array, Array]:
    """Of a layer whose outputs are about as large as its inputs."""
    random = np.random.default_rng(6)
    kernel = random.normal(size=(3, 3, inputs, outputs)) / math.sqrt(9 * inputs)
    return kernel.astype(np.float32), random.normal(size=outputs).astype(np.float32)


def equalized(inputs: int, outputs: int) -> EqualizedConv2D:
    convolution = EqualizedConv2D(outputs)
    convolution.build((None, None, None, inputs))
    convolution.bias.assign(weights(inputs, outputs)[1])
    return convolution


def layer(x: tf.Tensor, kernel: Array, bias: Array) -> tf.Tensor:
    """By definition, of [N, H, W, C]."""
    return leaky_relu(tf.nn.conv2d(x, kernel, strides=1, padding="SAME") + bias)


def image(*rows: list[float]) -> tf.Tensor:
    """One grey image, rows first."""
    return tf.constant(rows, tf.float32)[:, None, :, None]


def pixels(x: tf.Tensor) -> Array:
    return np.round(x[:, 0, :, 0], 3)


def bordered(x: tf.Tensor) -> tf.Tensor:
    return tf.pad(x, [[0, 0], [0, 0], [1, 1], [0, 0]])


# Upscaling


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 5)], ids=str)
def test_upscaling_by_differences_of_rows_is_upscaling_and_a_convolution(size: tuple[int, int]) -> None:
    x, (kernel, bias) = features(3, *size, 64), weights(64, 48)
    found = RowUpscaling(kernel, bias)(batch_and_rows_swapped(x))
    assert found.shape == (2 * size[0], 3, 2 * size[1] + 2, 48)
    expected = batch_and_rows_swapped(layer(upscale2(x), kernel, bias))
    np.testing.assert_allclose(found[:, :, 1:-1], expected, atol=1e-5)


def test_upscaling_turns_a_point_into_the_kernel_four_times_overlapping() -> None:
    point = image([0, 0, 0], [0, 1, 0], [0, 0, 0])
    assert pixels(RowUpscaling(ONE_TO_NINE, NO_BIAS)(point)[:, :, 1:-1]).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 9, 17, 15, 7, 0],
        [0, 15, 28, 24, 11, 0],
        [0, 9, 16, 12, 5, 0],
        [0, 3, 5, 3, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_four_outputs_of_upscaling_take_twelve_products() -> None:
    upscaling = RowUpscaling(*weights(5, 7))
    assert sum(math.prod(kernel.shape) for kernel in (upscaling.level, upscaling.above, upscaling.below)) == 12 * 5 * 7


# Convolution


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (32, 8), (64, 4)], ids=str)
def test_winograds_algorithm_along_one_axis_is_a_convolution(size: tuple[int, int]) -> None:
    """Rows are computed 32 at once, so 64 of them in two strips."""
    x, (kernel, bias) = features(3, *size, 64), weights(64, 48)
    found = RowWinograd(kernel, bias)(bordered(batch_and_rows_swapped(x)))
    assert found.shape == (size[0], 3, size[1], 48)
    np.testing.assert_allclose(found, batch_and_rows_swapped(layer(x, kernel, bias)), atol=1e-4)


def test_a_kernel_with_one_weight_moves_the_image() -> None:
    x = image([1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16])
    upper_right = np.zeros((3, 3, 1, 1), np.float32)
    upper_right[0, 2] = 1
    moved = RowWinograd(upper_right, NO_BIAS)(bordered(x))
    assert pixels(moved).tolist() == [[0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]]


def test_a_point_becomes_the_kernel() -> None:
    point = image([0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    found = RowWinograd(ONE_TO_NINE, NO_BIAS)(bordered(point))
    assert pixels(found).tolist() == [[9, 8, 7, 0], [6, 5, 4, 0], [3, 2, 1, 0], [0, 0, 0, 0]]


def test_four_rows_take_eighteen_products() -> None:
    convolution = RowWinograd(*weights(5, 7))
    assert sum(math.prod(kernel.shape) for kernel in convolution.kernels) == 18 * 5 * 7  # by definition 36


def test_where_features_are_few_a_convolution_stays_direct() -> None:
    x, convolution = features(3, 8, 12, 5), equalized(5, 7)
    found = RowConvolution(Convolution(convolution, "float32"))(bordered(batch_and_rows_swapped(x)))
    np.testing.assert_allclose(found, batch_and_rows_swapped(leaky_relu(convolution(x))), atol=1e-5)


# A block


def test_a_block_of_both_sees_zeros_beyond_all_borders() -> None:
    """The columns that upscaling gives beside the image are not seen."""
    x, first, second = features(3, 8, 8, 64), weights(64, 48), weights(48, 32)
    found = RowsFirstBlock(RowUpscaling(*first), RowWinograd(*second), EPSILON)(batch_and_rows_swapped(x))
    expected = layer(pixel_norm(layer(upscale2(pixel_norm(x, EPSILON)), *first), EPSILON), *second)
    np.testing.assert_allclose(found, batch_and_rows_swapped(expected), atol=1e-4)


def test_bfloat16_features_stay_bfloat16() -> None:
    x, (kernel, bias) = tf.cast(features(8, 3, 8, 16), tf.bfloat16), weights(16, 16)
    block = RowsFirstBlock(RowUpscaling(kernel, bias, "bfloat16"), RowWinograd(kernel, bias, "bfloat16"), EPSILON)
    assert block(x).dtype == tf.bfloat16
