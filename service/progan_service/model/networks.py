"""Generator and discriminator of Karras et al., "Progressive Growing of GANs", ICLR 2018 (appendix A, table 2).

Both work at the native resolution of a stage: at stage 2^r the generator gives and the discriminator takes 2^r x 2^r
images. All layers exist from the start; a stage runs only those it needs. `alpha` blends a new resolution in: 0 is
the network of the stage before (with upscaled images), 1 the new one; None leaves the blending out.
"""

import math

import keras
import tensorflow as tf

from progan_service.config import NetworkConfig, resolutions_up_to
from progan_service.model.layers import (
    SQRT2,
    EqualizedConv2D,
    EqualizedDense,
    MinibatchStdDev,
    Shape,
    downscale2,
    leaky_relu,
    lerp,
    pixel_norm,
    upscale2,
)


class GeneratorInput(keras.layers.Layer):
    """Latents and labels [N, L + K] -> features [N, 4, 4, C]."""

    def __init__(self, features: int, name: str) -> None:
        super().__init__(name=name)
        self.features = features
        self.dense = EqualizedDense(16 * features, gain=SQRT2 / 4, use_bias=False, name="dense")
        self.conv = EqualizedConv2D(features, name="conv")

    def build(self, input_shape: Shape) -> None:
        self.dense.build(input_shape)
        self.bias = self.add_weight(shape=(self.features,), initializer="zeros", name="bias")
        self.conv.build((None, 4, 4, self.features))
        self.built = True

    def call(self, latents: tf.Tensor) -> tf.Tensor:
        x = tf.reshape(self.dense(pixel_norm(latents)), [-1, 4, 4, self.features])
        x = pixel_norm(leaky_relu(x + self.bias))
        return pixel_norm(leaky_relu(self.conv(x)))


class GeneratorBlock(keras.layers.Layer):
    """Features [N, H, W, C] -> [N, 2H, 2W, C']."""

    def __init__(self, features: int, name: str) -> None:
        super().__init__(name=name)
        self.conv0 = EqualizedConv2D(features, name="conv0")
        self.conv1 = EqualizedConv2D(features, name="conv1")

    def build(self, input_shape: Shape) -> None:
        self.conv0.build(input_shape)
        self.conv1.build((None, None, None, self.conv0.filters))
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = pixel_norm(leaky_relu(self.conv0(upscale2(x))))
        return pixel_norm(leaky_relu(self.conv1(x)))


class Generator(keras.layers.Layer):
    """Latents [N, latent_size] (and labels [N, label_size]) -> images [N, R, R, channels], linear, nominally -1..1."""

    def __init__(self, config: NetworkConfig, name: str = "generator") -> None:
        super().__init__(name=name)
        self.config = config
        resolutions = resolutions_up_to(config.resolution)
        self.input_block = GeneratorInput(config.features(4), name="4x4")
        self.blocks = {r: GeneratorBlock(config.features(r), name=f"{r}x{r}") for r in resolutions[1:]}
        self.to_rgb = {
            r: EqualizedConv2D(config.channels, kernel_size=1, gain=1.0, name=f"to_rgb_{r}x{r}") for r in resolutions
        }
        self.build()

    def build(self) -> None:
        config = self.config
        self.input_block.build((None, config.latent_size + config.label_size))
        for r, block in self.blocks.items():
            block.build((None, None, None, config.features(r // 2)))
        for r, layer in self.to_rgb.items():
            layer.build((None, None, None, config.features(r)))
        self.built = True

    def call(
        self,
        latents: tf.Tensor,
        labels: tf.Tensor | None = None,
        *,
        resolution: int,
        alpha: tf.Tensor | None = None,
    ) -> tf.Tensor:
        if labels is not None:
            latents = tf.concat([latents, labels], axis=-1)
        previous, x = None, self.input_block(latents)
        for r in resolutions_up_to(resolution)[1:]:
            previous, x = x, self.blocks[r](x)
        images = self.to_rgb[resolution](x)
        if alpha is None or previous is None:
            return images
        return lerp(upscale2(self.to_rgb[resolution // 2](previous)), images, alpha)


class DiscriminatorBlock(keras.layers.Layer):
    """Features [N, H, W, C] -> [N, H/2, W/2, C']."""

    def __init__(self, in_features: int, out_features: int, name: str) -> None:
        super().__init__(name=name)
        self.conv0 = EqualizedConv2D(in_features, name="conv0")
        self.conv1 = EqualizedConv2D(out_features, name="conv1")

    def build(self, input_shape: Shape) -> None:
        self.conv0.build(input_shape)
        self.conv1.build(input_shape)
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = leaky_relu(self.conv0(x))
        return leaky_relu(downscale2(self.conv1(x)))  # pooled before the activation, as NVIDIA's fused layer does


class DiscriminatorOutput(keras.layers.Layer):
    """Features [N, 4, 4, C] -> [N, 1 + label_size]."""

    def __init__(self, features: int, label_size: int, mbstd_group_size: int, name: str) -> None:
        super().__init__(name=name)
        self.features = features
        self.minibatch_stddev = MinibatchStdDev(mbstd_group_size, name="minibatch_stddev")
        self.conv = EqualizedConv2D(features, name="conv")
        self.dense0 = EqualizedDense(features, name="dense0")
        self.dense1 = EqualizedDense(1 + label_size, gain=1.0, name="dense1")

    def build(self, input_shape: Shape) -> None:
        self.conv.build((None, 4, 4, self.features + 1))
        self.dense0.build((None, 16 * self.features))
        self.dense1.build((None, self.features))
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = leaky_relu(self.conv(self.minibatch_stddev(x)))
        x = leaky_relu(self.dense0(tf.reshape(x, [-1, math.prod(x.shape[1:])])))
        return self.dense1(x)


class Discriminator(keras.layers.Layer):
    """Images [N, R, R, channels], -1..1 -> scores [N] (higher: more real) and label logits [N, label_size]."""

    def __init__(self, config: NetworkConfig, mbstd_group_size: int = 4, name: str = "discriminator") -> None:
        super().__init__(name=name)
        self.config = config
        resolutions = resolutions_up_to(config.resolution)
        self.from_rgb = {
            r: EqualizedConv2D(config.features(r), kernel_size=1, name=f"from_rgb_{r}x{r}") for r in resolutions
        }
        self.blocks = {
            r: DiscriminatorBlock(config.features(r), config.features(r // 2), name=f"{r}x{r}") for r in resolutions[1:]
        }
        self.output_block = DiscriminatorOutput(config.features(4), config.label_size, mbstd_group_size, name="4x4")
        self.build()

    def build(self) -> None:
        config = self.config
        for layer in self.from_rgb.values():
            layer.build((None, None, None, config.channels))
        for r, block in self.blocks.items():
            block.build((None, None, None, config.features(r)))
        self.output_block.build((None, 4, 4, config.features(4)))
        self.built = True

    def call(
        self, images: tf.Tensor, *, resolution: int, alpha: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        x = leaky_relu(self.from_rgb[resolution](images))
        for r in reversed(resolutions_up_to(resolution)[1:]):
            x = self.blocks[r](x)
            if r == resolution and alpha is not None:
                x = lerp(leaky_relu(self.from_rgb[r // 2](downscale2(images))), x, alpha)
        outputs = self.output_block(x)
        return outputs[:, 0], outputs[:, 1:]
