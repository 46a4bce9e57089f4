"""The building blocks, each with numbers that can be worked out by hand."""

import math
from typing import Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.model.layers import (
    EqualizedConv2D,
    EqualizedDense,
    MinibatchStdDev,
    downscale2,
    leaky_relu,
    lerp,
    pixel_norm,
    upscale2,
)
from progan_service.model.pixels import from_uint8, to_uint8, to_unit_range


def images(*rows: list[float]) -> tf.Tensor:
    """One grey image."""
    return tf.constant(rows, tf.float32)[None, :, :, None]


# Equalized weights


def test_weights_begin_with_a_standard_deviation_of_one() -> None:
    keras.utils.set_random_seed(1)
    layer = EqualizedConv2D(256)
    layer.build((None, 8, 8, 64))
    assert layer.kernel.shape == (3, 3, 64, 256)
    assert np.std(layer.kernel.numpy()) == pytest.approx(1.0, abs=0.01)
    assert not layer.bias.numpy().any()


def test_a_convolution_scales_its_kernel_and_not_its_bias() -> None:
    layer = EqualizedConv2D(1)
    layer.build((None, 4, 4, 2))
    layer.kernel.assign(tf.ones([3, 3, 2, 1]))
    layer.bias.assign([10.0])
    inner = layer(tf.ones([1, 4, 4, 2]))[0, 1, 1, 0]
    assert float(inner) == pytest.approx(18 * math.sqrt(2) / math.sqrt(18) + 10)


def test_a_convolution_sees_zeros_beyond_the_border() -> None:
    layer = EqualizedConv2D(1, gain=3.0)
    layer.build((None, 2, 2, 1))
    layer.kernel.assign(tf.ones([3, 3, 1, 1]))
    np.testing.assert_allclose(layer(images([1, 2], [3, 4])), images([10, 10], [10, 10]), rtol=1e-6)


def test_a_dense_layer_scales_its_kernel_and_not_its_bias() -> None:
    layer = EqualizedDense(1, gain=1.0)
    layer.build((None, 4))
    layer.kernel.assign(tf.ones([4, 1]))
    layer.bias.assign([10.0])
    assert float(layer(tf.ones([1, 4]))[0, 0]) == pytest.approx(12.0)


def test_a_dense_layer_may_do_without_a_bias() -> None:
    layer = EqualizedDense(2, use_bias=False)
    layer.build((None, 4))
    assert [weight.name for weight in layer.weights] == ["kernel"]


@pytest.mark.parametrize(
    ("kernel_size", "channels", "scale"), [(3, 512, 0.020833333), (3, 16, 0.117851130), (1, 3, 0.816496581)]
)
def test_the_scale_of_a_convolution(kernel_size: int, channels: int, scale: float) -> None:
    layer = EqualizedConv2D(1, kernel_size)
    layer.build((None, None, None, channels))
    assert layer.scale == pytest.approx(scale, rel=1e-7)


def test_outputs_of_unit_inputs_have_the_gain_as_their_deviation() -> None:
    keras.utils.set_random_seed(2)
    layer = EqualizedDense(1000)
    layer.build((None, 1000))
    outputs = layer(tf.random.stateless_normal([100, 1000], [0, 0]))
    assert np.std(outputs) == pytest.approx(math.sqrt(2), rel=0.02)


def test_bfloat16_features_pass_through_float32_weights() -> None:
    x = tf.ones([1, 4, 4, 2], tf.bfloat16)
    conv, dense = EqualizedConv2D(3), EqualizedDense(3)
    assert conv(x).dtype == dense(x[:, 0, 0]).dtype == tf.bfloat16
    assert {weight.dtype for weight in (*conv.weights, *dense.weights)} == {"float32"}


def test_a_weight_is_rounded_to_bfloat16_after_it_is_scaled() -> None:
    layer = EqualizedDense(1, gain=1.0)
    layer.build((None, 9))
    layer.kernel.assign(tf.fill([9, 1], 3.01))  # scaled 1.00333, which rounds to 1; 3.01 itself rounds to 3.015625
    assert float(layer(tf.one_hot([0], 9, dtype=tf.bfloat16))[0, 0]) == 1.0


# Convolutions that double and halve


def resampling(resample: Literal["up", "down"] | None, fused: bool = False) -> EqualizedConv2D:
    """3 -> 5 features; the same weights every time."""
    layer = EqualizedConv2D(5, resample=resample, fused=fused)
    layer.build((None, None, None, 3))
    layer.kernel.assign(tf.random.stateless_normal([3, 3, 3, 5], [1, 0]))
    layer.bias.assign(tf.random.stateless_normal([5], [2, 0]))
    return layer


FEATURES = tf.random.stateless_normal([2, 8, 4, 3], [3, 0])


@pytest.mark.parametrize("fused", [False, True])
def test_a_convolution_that_doubles_is_one_of_the_upscaled_image(fused: bool) -> None:
    expected = resampling(None)(upscale2(FEATURES))
    np.testing.assert_allclose(resampling("up", fused)(FEATURES), expected, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_a_convolution_that_halves_is_downscaled_afterwards(fused: bool) -> None:
    expected = downscale2(resampling(None)(FEATURES))
    np.testing.assert_allclose(resampling("down", fused)(FEATURES), expected, atol=1e-5)


def test_fused_doubling_of_a_single_pixel() -> None:
    # Nearest upscaling makes 2x2 equal pixels; each sees the four of them, through other places of the kernel.
    layer = EqualizedConv2D(1, gain=3.0, resample="up", fused=True)  # scaled by 3 / sqrt(9) = 1
    layer.build((None, 1, 1, 1))
    layer.kernel.assign(tf.reshape(tf.range(1.0, 10.0), [3, 3, 1, 1]))
    #  1 2 3    pixel (0, 0): 5 + 6 + 8 + 9    (0, 1): 4 + 5 + 7 + 8
    #  4 5 6
    #  7 8 9    pixel (1, 0): 2 + 3 + 5 + 6    (1, 1): 1 + 2 + 4 + 5
    np.testing.assert_allclose(layer(images([1.0])), images([28, 24], [16, 12]), rtol=1e-6)


def test_fused_halving_to_a_single_pixel() -> None:
    layer = EqualizedConv2D(1, gain=3.0, resample="down", fused=True)
    layer.build((None, 2, 2, 1))
    layer.kernel.assign(tf.reshape(tf.range(1.0, 10.0), [3, 3, 1, 1]))
    impulses = tf.reshape(tf.eye(4), [4, 2, 2, 1])  # one pixel each: the same sums as above, a quarter of them
    np.testing.assert_allclose(tf.reshape(layer(impulses), [4]), [3, 4, 6, 7], rtol=1e-6)


def gradients(layer: EqualizedConv2D) -> list[NDArray[np.float32]]:
    """Of a curved function of the outputs: by the inputs, and of the squares of those by kernel and bias."""
    with tf.GradientTape() as by_weights:
        with tf.GradientTape() as by_inputs:
            by_inputs.watch(FEATURES)
            value = tf.reduce_sum(tf.sin(layer(FEATURES)))
        slope = by_inputs.gradient(value, FEATURES)
        squares = tf.reduce_sum(tf.square(slope))
    return [slope.numpy(), *(second.numpy() for second in by_weights.gradient(squares, layer.weights))]


@pytest.mark.parametrize("resample", ["up", "down"])
def test_fused_and_not_first_and_second_gradients_are_the_same(resample: Literal["up", "down"]) -> None:
    for fused, not_fused in zip(gradients(resampling(resample, True)), gradients(resampling(resample)), strict=True):
        assert np.abs(fused).max() > 0.1
        np.testing.assert_allclose(fused, not_fused, atol=1e-5 * np.abs(not_fused).max())


# Pixel norm


def test_pixel_norm_makes_the_root_mean_square_one() -> None:
    np.testing.assert_allclose(pixel_norm(tf.constant([[3.0, 4.0]])), [[3 / math.sqrt(12.5), 4 / math.sqrt(12.5)]])


def test_pixel_norm_leaves_zeros_alone() -> None:
    assert not np.any(pixel_norm(tf.zeros([1, 4])))


def test_pixel_norm_works_on_each_pixel_by_itself() -> None:
    features = tf.constant([[[[3.0, 4.0], [30.0, 40.0]]]])
    normed = pixel_norm(features)
    np.testing.assert_allclose(normed[0, 0, 0], normed[0, 0, 1], rtol=1e-6)


def test_pixel_norm_takes_its_mean_in_float32() -> None:
    # In bfloat16 the squares, 13225 and 12769, are 13248 and 12800: the 115 would become exactly 1.
    normed = pixel_norm(tf.constant([[115.0, 113.0]], tf.bfloat16))
    assert normed.dtype == tf.bfloat16
    assert float(normed[0, 0]) == pytest.approx(115 / math.sqrt((13225 + 12769) / 2), rel=0.002)


# Minibatch standard deviation


def test_groups_are_strided() -> None:
    # Eight images 0 ... 7 in groups of four: {0, 2, 4, 6} and {1, 3, 5, 7}, each with standard deviation sqrt(5).
    x = tf.reshape(tf.range(8.0), [8, 1, 1, 1])
    appended = MinibatchStdDev(4)(x)[:, 0, 0, 1]
    np.testing.assert_allclose(appended, [math.sqrt(5)] * 8, rtol=1e-6)


def test_an_image_belongs_to_the_group_of_its_number_modulo_the_groups() -> None:
    # Group {0, 2}: 0 and 10, deviation 5. Group {1, 3}: 1 and 3, deviation 1.
    x = tf.reshape(tf.constant([0.0, 1.0, 10.0, 3.0]), [4, 1, 1, 1])
    appended = MinibatchStdDev(2)(x)[:, 0, 0, 1]
    np.testing.assert_allclose(appended, [5, 1, 5, 1], rtol=1e-6)


def test_the_deviation_is_averaged_over_pixels_and_features() -> None:
    # Two images; the four features of the second differ by 2, 4, 6, 8 from the first: deviations 1, 2, 3, 4.
    x = tf.constant([0.0, 0, 0, 0, 2, 4, 6, 8], shape=[2, 1, 2, 2])
    outputs = MinibatchStdDev(2)(x)
    assert outputs.shape == (2, 1, 2, 3)
    np.testing.assert_array_equal(outputs[..., :2], x)
    np.testing.assert_allclose(outputs[..., 2], np.full((2, 1, 2), 2.5), rtol=1e-6)


def test_a_batch_smaller_than_the_group_is_one_group() -> None:
    x = tf.constant([0.0, 4.0], shape=[2, 1, 1, 1])
    np.testing.assert_allclose(MinibatchStdDev(4)(x)[:, 0, 0, 1], [2, 2], rtol=1e-6)


def test_equal_images_have_a_small_deviation_and_a_finite_gradient() -> None:
    x = tf.ones([4, 1, 1, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        appended = MinibatchStdDev(4)(x)[..., 1]
    np.testing.assert_allclose(appended, np.full((4, 1, 1), 1e-4), rtol=1e-5)
    assert np.isfinite(tape.gradient(appended, x)).all()


def test_the_deviation_is_taken_in_float32() -> None:
    # Their mean, 259, is no bfloat16 value: it would round to 260, and the deviation be sqrt(6).
    x = tf.constant([256.0, 258.0, 260.0, 262.0], tf.bfloat16, shape=[4, 1, 1, 1])
    outputs = MinibatchStdDev(4)(x)
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(outputs[:, 0, 0, 1], tf.float32), [math.sqrt(5)] * 4, rtol=2**-8)


# Up and down by two, and the rest


def test_upscaling_repeats_pixels() -> None:
    expected = images([1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4])
    np.testing.assert_array_equal(upscale2(images([1, 2], [3, 4])), expected)


def test_downscaling_takes_the_mean_of_boxes() -> None:
    np.testing.assert_array_equal(downscale2(images([1, 3, 0, 0], [5, 7, 0, 8])), images([4, 2]))


def test_leaky_relu_keeps_a_fifth_of_what_is_below_zero() -> None:
    np.testing.assert_allclose(leaky_relu(tf.constant([-10.0, 0.0, 10.0])), [-2, 0, 10])


def test_lerp_goes_from_the_first_to_the_second() -> None:
    assert [float(lerp(tf.constant(2.0), tf.constant(6.0), t)) for t in (0.0, 0.25, 1.0)] == [2, 3, 6]


# Pixels


def test_pixels_span_minus_one_to_one() -> None:
    np.testing.assert_allclose(from_uint8(tf.constant([0, 51, 255], tf.uint8)), [-1, -0.6, 1], atol=1e-6)


def test_every_pixel_value_survives_the_way_in_and_out() -> None:
    values = tf.range(256)
    np.testing.assert_array_equal(to_uint8(from_uint8(tf.cast(values, tf.uint8))), values)


def test_what_lies_beyond_the_range_is_clipped() -> None:
    beyond = tf.constant([-7.0, -1.0, 0.5, 1.0, 7.0])
    np.testing.assert_array_equal(to_uint8(beyond), [0, 0, 191, 255, 255])
    np.testing.assert_array_equal(to_unit_range(beyond), [0, 0, 0.75, 1, 1])
