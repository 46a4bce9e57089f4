"""The building blocks of both networks: equalized weights, pixel norm, minibatch stddev, up and down by two.

All images and features are [N, H, W, C]; kernels are stored [height, width, in, out].
"""

import math
from typing import Any

import keras
import tensorflow as tf

Shape = tuple[Any, ...]  # of a tensor; the batch is None, height and width may be

SQRT2 = math.sqrt(2.0)


def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(x, alpha=0.2)


def pixel_norm(x: tf.Tensor) -> tf.Tensor:
    """x / sqrt(mean over the last axis of x^2 + 1e-8): the root mean square of each vector becomes 1 (section 4.2)."""
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), axis=-1, keepdims=True) + 1e-8)


def upscale2(x: tf.Tensor) -> tf.Tensor:
    """Nearest neighbour: [N, H, W, C] -> [N, 2H, 2W, C]."""
    n, h, w, c = tf.shape(x)[0], x.shape[1], x.shape[2], x.shape[3]
    repeated = tf.broadcast_to(x[:, :, None, :, None, :], [n, h, 2, w, 2, c])
    return tf.reshape(repeated, [n, 2 * h, 2 * w, c])


def downscale2(x: tf.Tensor) -> tf.Tensor:
    """Mean of 2x2 boxes: [N, H, W, C] -> [N, H/2, W/2, C]."""
    return tf.nn.avg_pool2d(x, ksize=2, strides=2, padding="VALID")


def lerp(a: tf.Tensor, b: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    return a + (b - a) * t


class EqualizedConv2D(keras.layers.Layer):
    """Convolution, stride 1, SAME, whose N(0, 1) kernel is scaled by gain / sqrt(fan_in) at run time (section 4.1).

    The scale multiplies the kernel only; the bias starts at zero and is not scaled.
    """

    def __init__(self, filters: int, kernel_size: int = 3, gain: float = SQRT2, name: str | None = None) -> None:
        super().__init__(name=name)
        self.filters = filters
        self.kernel_size = kernel_size
        self.gain = gain

    def build(self, input_shape: Shape) -> None:
        in_channels = input_shape[-1]
        shape = (self.kernel_size, self.kernel_size, in_channels, self.filters)
        self.kernel = self.add_weight(
            shape=shape, initializer=keras.initializers.RandomNormal(stddev=1.0), name="kernel"
        )
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        self.scale = self.gain / math.sqrt(self.kernel_size**2 * in_channels)
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(x, self.kernel * self.scale, strides=1, padding="SAME") + self.bias


class EqualizedDense(keras.layers.Layer):
    """Fully connected layer whose N(0, 1) kernel is scaled by gain / sqrt(fan_in) at run time (section 4.1)."""

    def __init__(self, units: int, gain: float = SQRT2, use_bias: bool = True, name: str | None = None) -> None:
        super().__init__(name=name)
        self.units = units
        self.gain = gain
        self.use_bias = use_bias

    def build(self, input_shape: Shape) -> None:
        in_size = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(in_size, self.units), initializer=keras.initializers.RandomNormal(stddev=1.0), name="kernel"
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias") if self.use_bias else None
        self.scale = self.gain / math.sqrt(in_size)
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        y = tf.matmul(x, self.kernel * self.scale)
        return y if self.bias is None else y + self.bias


class MinibatchStdDev(keras.layers.Layer):
    """Appends one feature map with the mean standard deviation over a group of images (section 3).

    [N, H, W, C] -> [N, H, W, C + 1]. With M = N / min(group_size, N), image i belongs to group i mod M: groups are
    strided, not consecutive. N must be a multiple of the group size (checked by TrainingConfig).
    """

    def __init__(self, group_size: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self.group_size = group_size

    def call(self, x: tf.Tensor) -> tf.Tensor:
        n, (h, w, c) = tf.shape(x)[0], x.shape[1:]
        group = tf.minimum(self.group_size, n)
        y = tf.reshape(x, [group, -1, h, w, c])  # [G, M, H, W, C]
        variance = tf.reduce_mean(tf.square(y - tf.reduce_mean(y, axis=0, keepdims=True)), axis=0)  # [M, H, W, C]
        deviation = tf.reduce_mean(tf.sqrt(variance + 1e-8), axis=[1, 2, 3], keepdims=True)  # [M, 1, 1, 1]
        return tf.concat([x, tf.tile(deviation, [group, h, w, 1])], axis=-1)
