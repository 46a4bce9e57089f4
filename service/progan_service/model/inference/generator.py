"""The generator for serving: computes the function of `networks.Generator` at one resolution, as fast as possible.

What does not depend on the latents is computed once: equalized scales are folded into the kernels, and upscaling into
the convolution after it. On CPUs the image of a latent is the same to the bit in every batch.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Self

import tensorflow as tf

from progan_service.checks import resolutions_up_to
from progan_service.model.layers import EqualizedConv2D, leaky_relu, lerp, upscale2
from progan_service.model.networks import Generator

Layer = Callable[[tf.Tensor], tf.Tensor]  # features [N, H, W, C] -> [N, H', W', C'], activated
Block = Callable[[tf.Tensor], tf.Tensor]  # features [N, H, W, C] -> [N, 2H, 2W, C']; before the pixel norm


class Arrangement(Enum):
    """The order of the axes in which blocks take the features of a batch."""

    BATCH = "images first"  # [N, H, W, C]
    ONE_BY_ONE = "one image at a time"  # [1, H, W, C]
    ROWS_FIRST = "rows first"  # [H, N, W, C]: a range of rows of all images is contiguous


class InferenceGenerator(tf.Module):
    """Latents [N, latent_size] (and labels [N, label_size]) -> images [N, R, R, channels], nominally in -1..1.

    alpha         weight of `resolution` against the previous one; 1 for a finished generator
    activations   type of features and kernels, "float32" or "bfloat16"; norms and images are float32
    """

    def __init__(self, generator: Generator, resolution: int, alpha: float = 1.0, activations: str = "float32") -> None:
        super().__init__()
        self.activations, self.epsilon = activations, generator.config.pixelnorm_epsilon
        block = generator.input_block
        self.features = block.features
        self.dense = tf.Variable(block.dense.kernel * block.dense.scale, trainable=False)
        self.dense_bias = tf.Variable(block.bias, trainable=False)
        self.conv = Convolution(block.conv, activations)
        self.blocks: dict[int, Block] = {
            r: LayeredBlock(
                Upscaling(generator.blocks[r].conv0, activations),
                Convolution(generator.blocks[r].conv1, activations),
                self.epsilon,
            )
            for r in resolutions_up_to(resolution)[1:]
        }
        self.last: dict[int, Block] = {}
        self.arrangement = Arrangement.BATCH
        self.to_rgb = ToRgb(generator.to_rgb[resolution], activations, self.epsilon)
        self.alpha = alpha if self.blocks else 1.0  # 4x4 has no previous resolution
        if self.alpha < 1.0:
            self.previous_to_rgb = ToRgb(generator.to_rgb[resolution // 2], activations, self.epsilon)

    def __call__(self, latents: tf.Tensor, labels: tf.Tensor | None = None) -> tf.Tensor:
        if labels is not None:
            latents = tf.concat([latents, labels], axis=-1)
        x = self.conv(pixel_norm(self._first_features(latents), self.epsilon))
        before, x = _grown(self.blocks.values(), x)
        if self.arrangement is Arrangement.ONE_BY_ONE:
            return tf.map_fn(self._image, x, parallel_iterations=1, fn_output_signature=tf.float32)
        if self.arrangement is Arrangement.ROWS_FIRST:
            before, x = _grown(self.last.values(), batch_and_rows_swapped(x))
            return self._images(before, x, batch_and_rows_swapped)
        return self._images(before, x)

    def with_last(self, blocks: Mapping[int, Block], arrangement: Arrangement) -> Self:
        """Return the same function with its last blocks replaced by blocks of this arrangement, which is not BATCH."""
        changed = copy.copy(self)
        changed.blocks = {r: block for r, block in self.blocks.items() if r not in blocks}
        changed.last, changed.arrangement = dict(blocks), arrangement
        return changed

    def _images(
        self, before: tf.Tensor, x: tf.Tensor, as_batch: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    ) -> tf.Tensor:
        """Return images from the features before and after the last block. `as_batch` rearranges to [N, H, W, C]."""
        images = as_batch(self.to_rgb(x))
        if self.alpha == 1.0:
            return images
        return lerp(upscale2(as_batch(self.previous_to_rgb(before))), images, self.alpha)

    def _image(self, features: tf.Tensor) -> tf.Tensor:
        return self._images(*_grown(self.last.values(), features[None]))[0]

    def _first_features(self, latents: tf.Tensor) -> tf.Tensor:
        """Return the features [N, 4, 4, C] of the dense layer for latents [N, L].

        TensorFlow's order of summation depends on the number of rows, in reductions of fewer than eight rows and in
        matrix products. So the norm of each latent is computed on eight copies of it, and each has its own product.
        """
        x = latents[:, None, :]
        x = x * norm_factor(tf.tile(x, [1, 8, 1]), self.epsilon)[:, :1]
        x = tf.reshape(tf.matmul(x, self.dense), [-1, 4, 4, self.features]) + self.dense_bias
        return leaky_relu(tf.cast(x, self.conv.kernel.dtype))


def _grown(blocks: Iterable[Block], x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the features before and after the last of the blocks."""
    before = x
    for block in blocks:
        before, x = x, block(x)
    return before, x


def batch_and_rows_swapped(x: tf.Tensor) -> tf.Tensor:
    """Swap the first two axes: [N, H, W, C] <-> [H, N, W, C]."""
    return tf.transpose(x, [1, 0, 2, 3])


class LayeredBlock(tf.Module):
    """A block made of two given layers, with a pixel norm before each."""

    def __init__(self, upscaling: Layer, conv: Layer, epsilon: float) -> None:
        super().__init__()
        self.upscaling, self.conv, self.epsilon = upscaling, conv, epsilon

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.conv(pixel_norm(self.upscaling(pixel_norm(x, self.epsilon)), self.epsilon))


class Convolution(tf.Module):
    """A 3x3 convolution with stride 1 and SAME padding, and the activation."""

    def __init__(self, layer: EqualizedConv2D, activations: str) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.cast(layer.kernel * layer.scale, activations), trainable=False)
        self.bias = tf.Variable(tf.cast(layer.bias, activations), trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.conv2d(x, self.kernel, strides=1, padding="SAME")
        return leaky_relu(tf.nn.bias_add(x, self.bias))


class Upscaling(tf.Module):
    """Upscaling by two, a 3x3 convolution and the activation.

    It is one transposed convolution of stride 2, in which each output is a sum over 2x2 inputs.
    """

    def __init__(self, layer: EqualizedConv2D, activations: str) -> None:
        super().__init__()
        self.filters = layer.filters
        self.kernel = tf.Variable(tf.cast(layer.transposed_kernel(), activations), trainable=False)
        self.bias = tf.Variable(tf.cast(layer.bias, activations), trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        n, h, w = tf.shape(x)[0], x.shape[1], x.shape[2]
        x = tf.nn.conv2d_transpose(x, self.kernel, [n, 2 * h, 2 * w, self.filters], strides=2, padding="SAME")
        return leaky_relu(tf.nn.bias_add(x, self.bias))


class ToRgb(tf.Module):
    """Pixel norm and the 1x1 convolution from features of any arrangement to images, float32.

    The norm is one factor per pixel. It is faster to multiply three channels by it than all features.
    """

    def __init__(self, layer: EqualizedConv2D, activations: str, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.kernel = tf.Variable(tf.cast(layer.kernel * layer.scale, activations), trainable=False)
        self.bias = tf.Variable(layer.bias, trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        images = tf.cast(tf.nn.conv2d(x, self.kernel, strides=1, padding="SAME"), tf.float32)
        return tf.nn.bias_add(images * norm_factor(x, self.epsilon), self.bias)


def norm_factor(x: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Return the factor of the pixel norm of each vector, float32. One pass over x sums in float32."""
    length = tf.cast(tf.math.reduce_euclidean_norm(x, axis=-1, keepdims=True), tf.float32)
    return tf.math.rsqrt(tf.square(length) / x.shape[-1] + epsilon)


def pixel_norm(x: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Return x with each vector scaled to the root mean square 1 (section 4.2)."""
    return x * tf.cast(norm_factor(x, epsilon), x.dtype)
