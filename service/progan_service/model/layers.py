"""The building blocks of both networks: equalized weights, pixel norm, minibatch stddev, up- and downscaling by two.

All images and features are [N, H, W, C]; kernels are stored [height, width, in, out].
"""

import math
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Shape = tuple[Any, ...]  # of a tensor; the batch is None, and so may height and width be

SQRT2 = math.sqrt(2.0)


def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """Return max(x, 0.2 x)."""
    return tf.nn.leaky_relu(x, alpha=0.2)


def pixel_norm(x: tf.Tensor, epsilon: float = 1e-8) -> tf.Tensor:
    """Return x / sqrt(mean(x^2) + epsilon) over the last axis: each vector gets the root mean square 1 (section 4.2).

    The mean is computed in float32 for every type of x.
    """
    mean_square = tf.reduce_mean(tf.square(tf.cast(x, tf.float32)), axis=-1, keepdims=True)
    return x * tf.cast(tf.math.rsqrt(mean_square + epsilon), x.dtype)


def upscale2(x: tf.Tensor) -> tf.Tensor:
    """Scale up by nearest neighbour: [N, H, W, C] -> [N, 2H, 2W, C]."""
    n, h, w, c = tf.shape(x)[0], x.shape[1], x.shape[2], x.shape[3]
    repeated = tf.broadcast_to(x[:, :, None, :, None, :], [n, h, 2, w, 2, c])
    return tf.reshape(repeated, [n, 2 * h, 2 * w, c])


def downscale2(x: tf.Tensor) -> tf.Tensor:
    """Scale down by 2x2 box means: [N, H, W, C] -> [N, H/2, W/2, C]."""
    return tf.nn.avg_pool2d(x, ksize=2, strides=2, padding="VALID")


def lerp(a: tf.Tensor, b: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    """Return a + (b - a) t."""
    return a + (b - a) * tf.cast(t, a.dtype)


class EqualizedConv2D(keras.layers.Layer):
    """Convolution with stride 1 and SAME padding. Its N(0, 1) kernel is scaled by gain / sqrt(fan_in) (section 4.1).

    The scale multiplies the kernel at run time, and not the bias, which starts at zero. Weights are float32; the scaled
    kernel is cast to the type of the features.

    resample    "up" scales the features up before the convolution, "down" scales them down after it, before the bias
    fused       resample and convolve by one convolution of stride 2, whose 4x4 kernel is made of the 3x3 weights: the
                same function up to rounding, with less than half of the arithmetic
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        gain: float = SQRT2,
        resample: Literal["up", "down"] | None = None,
        fused: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, autocast=False)
        self.filters = filters
        self.kernel_size = kernel_size
        self.gain = gain
        self.resample = resample
        self.fused = fused

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
        return self._convolve(x) + tf.cast(self.bias, x.dtype)

    def _convolve(self, x: tf.Tensor) -> tf.Tensor:
        if self.fused and self.resample == "up":
            n, h, w = tf.shape(x)[0], x.shape[1], x.shape[2]
            kernel = tf.cast(self.transposed_kernel(), x.dtype)
            return tf.nn.conv2d_transpose(x, kernel, [n, 2 * h, 2 * w, self.filters], strides=2, padding="SAME")
        if self.fused and self.resample == "down":
            return tf.nn.conv2d(x, tf.cast(self._resampled(_FOUR_SHIFTS / 4), x.dtype), strides=2, padding="SAME")
        x = upscale2(x) if self.resample == "up" else x
        x = tf.nn.conv2d(x, tf.cast(self.kernel * self.scale, x.dtype), strides=1, padding="SAME")
        return downscale2(x) if self.resample == "down" else x

    def transposed_kernel(self) -> tf.Tensor:
        """Return the kernel [4, 4, out, in] of the transposed convolution of stride 2 that scales up and convolves."""
        # A transposed convolution correlates with the flipped kernel.
        return tf.transpose(self._resampled(_FOUR_SHIFTS[:, ::-1]), [0, 1, 3, 2])

    def from_transposed_kernel(self, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the weights [3, 3, in, out] for which `transposed_kernel` returns this kernel [4, 4, out, in]."""
        taps = np.transpose(kernel.astype(np.float64), (0, 1, 3, 2)).reshape(16, -1)
        weights = np.linalg.pinv(_FOUR_SHIFTS[:, ::-1] * self.scale) @ taps
        return weights.reshape(3, 3, *np.swapaxes(kernel, 2, 3).shape[2:]).astype(np.float32)

    def _resampled(self, shifts: NDArray[np.floating]) -> tf.Tensor:
        """Return the scaled kernel, [3, 3, in, out] -> [4, 4, in, out], by a linear map [16, 9] of its taps."""
        taps = tf.reshape(self.kernel, [9, -1])
        kernel = tf.matmul(tf.constant(shifts * self.scale, tf.float32), taps)
        return tf.reshape(kernel, [4, 4, *self.kernel.shape[2:]])


def _four_shifts() -> NDArray[np.floating]:
    """Return the map [16, 9] from a 3x3 kernel to the sum of its copies shifted by 0 and 1 along each axis, 4x4."""
    shifts = np.eye(4, 3) + np.eye(4, 3, k=-1)  # one axis
    return np.kron(shifts, shifts)


_FOUR_SHIFTS = _four_shifts()


class EqualizedDense(keras.layers.Layer):
    """Fully connected layer. Its N(0, 1) kernel is scaled by gain / sqrt(fan_in) at run time (section 4.1)."""

    def __init__(self, units: int, gain: float = SQRT2, use_bias: bool = True, name: str | None = None) -> None:
        super().__init__(name=name, autocast=False)
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
        y = tf.matmul(x, tf.cast(self.kernel * self.scale, x.dtype))
        return y if self.bias is None else y + tf.cast(self.bias, x.dtype)


class MinibatchStdDev(keras.layers.Layer):
    """Appends one feature map: the mean standard deviation over a group of images (section 3).

    [N, H, W, C] -> [N, H, W, C + 1]. With M = N / min(group_size, N), image i belongs to group i mod M: groups are
    strided, not consecutive. N must be a multiple of the group size (checked by TrainingConfig). The deviation is
    computed in float32 for every type of the features.
    """

    def __init__(self, group_size: int, name: str | None = None) -> None:
        super().__init__(name=name, autocast=False)
        self.group_size = group_size

    def call(self, x: tf.Tensor) -> tf.Tensor:
        n, (h, w, c) = tf.shape(x)[0], x.shape[1:]
        group = tf.minimum(self.group_size, n)
        y = tf.reshape(tf.cast(x, tf.float32), [group, -1, h, w, c])  # [G, M, H, W, C]
        variance = tf.reduce_mean(tf.square(y - tf.reduce_mean(y, axis=0, keepdims=True)), axis=0)  # [M, H, W, C]
        deviation = tf.reduce_mean(tf.sqrt(variance + 1e-8), axis=[1, 2, 3], keepdims=True)  # [M, 1, 1, 1]
        return tf.concat([x, tf.tile(tf.cast(deviation, x.dtype), [group, h, w, 1])], axis=-1)
