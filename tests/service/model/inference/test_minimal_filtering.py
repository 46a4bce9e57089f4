"""Convolutions with fewer multiplications, against their definition and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.model.inference.minimal_filtering import DifferenceUpscaling, Winograd
from progan_service.model.layers import leaky_relu, upscale2

Array = NDArray[np.float32]

TOLERANCES = {2: 1e-5, 4: 1e-3}  # by the size of the tile

NO_BIAS = np.zeros(1, np.float32)
ONE_TO_NINE = np.arange(1, 10, dtype=np.float32).reshape(3, 3, 1, 1)


def features(height: int, width: int, channels: int) -> tf.Tensor:
    return tf.random.stateless_normal([1, height, width, channels], [5, 0])


def weights(inputs: int, outputs: int) -> tuple[Array, Array]:
    """Of a layer whose outputs are about as large as its inputs."""
    random = np.random.default_rng(6)
    kernel = random.normal(size=(3, 3, inputs, outputs)) / math.sqrt(9 * inputs)
    return kernel.astype(np.float32), random.normal(size=outputs).astype(np.float32)


def convolution(x: tf.Tensor, kernel: Array, bias: Array) -> tf.Tensor:
    return leaky_relu(tf.nn.conv2d(x, kernel, strides=1, padding="SAME") + bias)


def image(*rows: list[float]) -> tf.Tensor:
    """One grey image."""
    return tf.constant(rows, tf.float32)[None, :, :, None]


def pixels(x: tf.Tensor) -> Array:
    return np.round(x[0, :, :, 0], 3)


# Winograd's algorithm


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (16, 4)], ids=str)
@pytest.mark.parametrize("strips", [1, 2])
@pytest.mark.parametrize("tile", [2, 4])
def test_winograds_algorithm_is_a_convolution(tile: int, strips: int, size: tuple[int, int]) -> None:
    x, (kernel, bias) = features(*size, 64), weights(64, 48)
    found = Winograd(kernel, bias, tile, rows=size[0] // strips)(x)
    assert found.shape == (1, *size, 48)
    np.testing.assert_allclose(found, convolution(x, kernel, bias), atol=TOLERANCES[tile])


@pytest.mark.parametrize("tile", [2, 4])
def test_winograds_algorithm_with_one_weight_moves_the_image(tile: int) -> None:
    x = image([1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16])
    upper_right = np.zeros((3, 3, 1, 1), np.float32)
    upper_right[0, 2] = 1
    moved = Winograd(upper_right, NO_BIAS, tile, rows=4)(x)
    assert pixels(moved).tolist() == [[0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]]


@pytest.mark.parametrize("tile", [2, 4])
def test_winograds_algorithm_turns_a_point_into_the_kernel(tile: int) -> None:
    point = image([0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    found = Winograd(ONE_TO_NINE, NO_BIAS, tile, rows=4)(point)
    assert pixels(found).tolist() == [[9, 8, 7, 0], [6, 5, 4, 0], [3, 2, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(("tile", "products"), [(2, 16), (4, 36)])
def test_a_tile_of_winograds_algorithm_takes_fewer_products(tile: int, products: int) -> None:
    assert Winograd(*weights(5, 7), tile, rows=4).kernel.shape == (products, 5, 7)  # by definition 36 and 144


# Upscaling by differences


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 5)], ids=str)
def test_upscaling_by_differences_is_upscaling_and_a_convolution(size: tuple[int, int]) -> None:
    x, (kernel, bias) = features(*size, 64), weights(64, 48)
    found = DifferenceUpscaling(kernel, bias)(x)
    assert found.shape == (1, 2 * size[0], 2 * size[1], 48)
    np.testing.assert_allclose(found, convolution(upscale2(x), kernel, bias), atol=1e-5)


def test_upscaling_by_differences_turns_a_point_into_the_kernel_four_times_overlapping() -> None:
    point = image([0, 0, 0], [0, 1, 0], [0, 0, 0])
    assert pixels(DifferenceUpscaling(ONE_TO_NINE, NO_BIAS)(point)).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 9, 17, 15, 7, 0],
        [0, 15, 28, 24, 11, 0],
        [0, 9, 16, 12, 5, 0],
        [0, 3, 5, 3, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_upscaling_by_differences_sees_zeros_beyond_the_border() -> None:
    found = DifferenceUpscaling(np.ones((3, 3, 1, 1), np.float32), NO_BIAS)(image([1, 2]))
    assert pixels(found).tolist() == [[4, 8, 10, 8], [4, 8, 10, 8]]


def test_upscaling_by_differences_always_gives_the_same_bits() -> None:
    """Sums of three terms or more would not: TensorFlow takes their terms as memory comes free."""
    x, upscaling = features(32, 32, 256), tf.function(DifferenceUpscaling(*weights(256, 128)))
    first = upscaling(x)
    for _ in range(20):
        np.testing.assert_array_equal(upscaling(x), first)
