"""The generator as it is served: the function of `networks.Generator` at one resolution, made for speed.

All that does not depend on the latents is done beforehand: equalized scales are folded into the kernels, upscaling into
the convolution that follows it. On CPUs an image is the same to the bit whatever the size of its batch and whoever
shares it.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Self

import tensorflow as tf

from progan_service.config import resolutions_up_to
from progan_service.model.layers import EqualizedConv2D, leaky_relu, lerp, upscale2
from progan_service.model.networks import Generator

Layer = Callable[[tf.Tensor], tf.Tensor]  # features [N, H, W, C] -> [N, H', W', C']; before the activation


class InferenceGenerator(tf.Module):
    """Latents [N, latent_size] (and labels [N, label_size]) -> images [N, R, R, channels], linear, nominally -1..1.

    alpha         how far `resolution` has been blended in; 1 for a finished generator
    activations   type of features and kernels, "float32" or "bfloat16"; norms and images are float32
    """

    def __init__(self, generator: Generator, resolution: int, alpha: float = 1.0, activations: str = "float32") -> None:
        super().__init__()
        self.activations = activations
        block = generator.input_block
        self.features = block.features
        self.dense = tf.Variable(block.dense.kernel * block.dense.scale, trainable=False)
        self.dense_bias = tf.Variable(block.bias, trainable=False)
        self.conv = Convolution(block.conv, activations)
        self.blocks: dict[int, tuple[Layer, Layer]] = {
            r: (Upscaling(generator.blocks[r].conv0, activations), Convolution(generator.blocks[r].conv1, activations))
            for r in resolutions_up_to(resolution)[1:]
        }
        self.one_by_one: dict[int, tuple[Layer, Layer]] = {}
        self.to_rgb = ToRgb(generator.to_rgb[resolution], activations)
        self.alpha = alpha if self.blocks else 1.0  # at 4x4 there is nothing to fade from
        if self.alpha < 1.0:
            self.previous_to_rgb = ToRgb(generator.to_rgb[resolution // 2], activations)

    def __call__(self, latents: tf.Tensor, labels: tf.Tensor | None = None) -> tf.Tensor:
        if labels is not None:
            latents = tf.concat([latents, labels], axis=-1)
        x = leaky_relu(self.conv(pixel_norm(leaky_relu(self._first_features(latents)))))
        before, x = _grown(self.blocks, x)
        if not self.one_by_one:
            return self._images(before, x)

        def one(features: tf.Tensor) -> tf.Tensor:
            return self._images(*_grown(self.one_by_one, features[None]))[0]

        return tf.map_fn(one, x, parallel_iterations=1, fn_output_signature=tf.float32)

    def with_one_by_one(self, blocks: Mapping[int, tuple[Layer, Layer]]) -> Self:
        """The same function, with other layers for its last blocks, which take one image at a time."""
        changed = copy.copy(self)
        changed.blocks = {r: layers for r, layers in self.blocks.items() if r not in blocks}
        changed.one_by_one = dict(blocks)
        return changed

    def _images(self, before: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        images = self.to_rgb(x)
        return lerp(upscale2(self.previous_to_rgb(before)), images, self.alpha) if self.alpha < 1.0 else images

    def _first_features(self, latents: tf.Tensor) -> tf.Tensor:
        """[N, L] -> [N, 4, 4, C].

        TensorFlow sums in an order that depends on the number of rows: it has fewer than eight of them to reduce, or a
        product of several. So each latent is eight rows for its norm, and has a product of its own.
        """
        x = latents[:, None, :]
        x = x * norm_factor(tf.tile(x, [1, 8, 1]))[:, :1]
        x = tf.nn.bias_add(tf.reshape(tf.matmul(x, self.dense), [-1, 4, 4, self.features]), self.dense_bias)
        return tf.cast(x, self.conv.kernel.dtype)


def _grown(blocks: Mapping[int, tuple[Layer, Layer]], x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The features before and after the last of the blocks, which rise."""
    before = x
    for upscaling, conv in blocks.values():
        before = x
        x = leaky_relu(upscaling(pixel_norm(x)))
        x = leaky_relu(conv(pixel_norm(x)))
    return before, x


class Convolution(tf.Module):
    """3x3, stride 1, SAME."""

    def __init__(self, layer: EqualizedConv2D, activations: str) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.cast(layer.kernel * layer.scale, activations), trainable=False)
        self.bias = tf.Variable(tf.cast(layer.bias, activations), trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.bias_add(tf.nn.conv2d(x, self.kernel, strides=1, padding="SAME"), self.bias)


class Upscaling(tf.Module):
    """Upscaling by two and a 3x3 convolution: one transposed convolution of stride 2, whose outputs of each phase are
    sums of 2x2 inputs."""

    def __init__(self, layer: EqualizedConv2D, activations: str) -> None:
        super().__init__()
        self.filters = layer.filters
        self.kernel = tf.Variable(tf.cast(layer.transposed_kernel(), activations), trainable=False)
        self.bias = tf.Variable(tf.cast(layer.bias, activations), trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        n, h, w = tf.shape(x)[0], x.shape[1], x.shape[2]
        x = tf.nn.conv2d_transpose(x, self.kernel, [n, 2 * h, 2 * w, self.filters], strides=2, padding="SAME")
        return tf.nn.bias_add(x, self.bias)


class ToRgb(tf.Module):
    """Pixel norm and the 1x1 convolution to images, float32. The norm is one factor for each pixel: three channels are
    sooner multiplied by it than all features."""

    def __init__(self, layer: EqualizedConv2D, activations: str) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.cast(layer.kernel * layer.scale, activations), trainable=False)
        self.bias = tf.Variable(layer.bias, trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        images = tf.cast(tf.nn.conv2d(x, self.kernel, strides=1, padding="SAME"), tf.float32)
        return tf.nn.bias_add(images * norm_factor(x), self.bias)


def norm_factor(x: tf.Tensor) -> tf.Tensor:
    """float32: what pixel norm multiplies each vector by. The length takes one pass over x."""
    length = tf.math.reduce_euclidean_norm(tf.cast(x, tf.float32), axis=-1, keepdims=True)
    return tf.math.rsqrt(tf.square(length) / x.shape[-1] + 1e-8)


def pixel_norm(x: tf.Tensor) -> tf.Tensor:
    return x * tf.cast(norm_factor(x), x.dtype)
