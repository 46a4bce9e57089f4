"""Generator and discriminator of Karras et al., "Progressive Growing of GANs", ICLR 2018 (appendix A, table 2).

Both networks work at the resolution of a stage: the generator returns and the discriminator takes images of that size.
All layers exist from the start, and a stage runs those that it needs. `alpha` blends a new resolution in: 0 is the
network of the previous stage (with images scaled up), 1 is the new one, and None computes no blend.

fused         up- and downscaling inside the neighbouring convolutions: the same function with less arithmetic
activations   type of the features, "float32" or "bfloat16"; weights, norms, deviations, images and scores are float32
"""

import math
from collections.abc import Mapping

import keras
import tensorflow as tf

from progan_service.checks import resolutions_up_to
from progan_service.model.config import NetworkConfig
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
    """The first block of the generator: latents and labels [N, L + K] -> features [N, 4, 4, C]."""

    def __init__(self, features: int, bias: str, epsilon: float, activations: str, name: str) -> None:
        super().__init__(name=name, autocast=False)
        self.features = features
        self.bias_shape = (features,) if bias == "channel" else (4, 4, features)
        self.epsilon = epsilon
        self.activations = activations
        self.dense = EqualizedDense(16 * features, gain=SQRT2 / 4, use_bias=False, name="dense")
        self.conv = EqualizedConv2D(features, name="conv")

    def build(self, input_shape: Shape) -> None:
        self.dense.build(input_shape)
        self.bias = self.add_weight(shape=self.bias_shape, initializer="zeros", name="bias")
        self.conv.build((None, 4, 4, self.features))
        self.built = True

    def call(self, latents: tf.Tensor) -> tf.Tensor:
        x = self.dense(tf.cast(pixel_norm(latents, self.epsilon), self.activations))
        x = tf.reshape(x, [-1, 4, 4, self.features])
        x = pixel_norm(leaky_relu(x + tf.cast(self.bias, x.dtype)), self.epsilon)
        return pixel_norm(leaky_relu(self.conv(x)), self.epsilon)


class GeneratorBlock(keras.layers.Layer):
    """A block of the generator: features [N, H, W, C] -> [N, 2H, 2W, C']."""

    def __init__(self, features: int, epsilon: float, fused: bool, name: str) -> None:
        super().__init__(name=name, autocast=False)
        self.epsilon = epsilon
        self.conv0 = EqualizedConv2D(features, resample="up", fused=fused, name="conv0")
        self.conv1 = EqualizedConv2D(features, name="conv1")

    def build(self, input_shape: Shape) -> None:
        self.conv0.build(input_shape)
        self.conv1.build((None, None, None, self.conv0.filters))
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = pixel_norm(leaky_relu(self.conv0(x)), self.epsilon)
        return pixel_norm(leaky_relu(self.conv1(x)), self.epsilon)


class Generator(keras.layers.Layer):
    """Latents [N, latent_size] (and labels [N, label_size]) -> images [N, R, R, channels], nominally in -1..1."""

    def __init__(
        self, config: NetworkConfig, *, fused: bool = True, activations: str = "float32", name: str = "generator"
    ) -> None:
        super().__init__(name=name, autocast=False)
        self.config = config
        resolutions, epsilon = resolutions_up_to(config.resolution), config.pixelnorm_epsilon
        self.input_block = GeneratorInput(config.features(4), config.first_bias, epsilon, activations, name="4x4")
        self.blocks = {r: GeneratorBlock(config.features(r), epsilon, fused, name=f"{r}x{r}") for r in resolutions[1:]}
        self.to_rgb = {
            r: EqualizedConv2D(config.channels, kernel_size=1, gain=1.0, name=f"to_rgb_{r}x{r}") for r in resolutions
        }
        self.build()

    def build(self) -> None:
        config = self.config
        self.input_block.build((None, config.latents + config.label_size))
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
        images = tf.cast(self.to_rgb[resolution](x), tf.float32)
        if alpha is None or previous is None:
            return images
        return lerp(upscale2(tf.cast(self.to_rgb[resolution // 2](previous), tf.float32)), images, alpha)

    def stage_weights(self, resolution: int, fading: bool) -> list[keras.Variable]:
        """Return the weights that a stage uses and trains."""
        return _stage_weights(self.input_block, self.blocks, self.to_rgb, resolution, fading)


class DiscriminatorBlock(keras.layers.Layer):
    """A block of the discriminator: features [N, H, W, C] -> [N, H/2, W/2, C']."""

    def __init__(self, in_features: int, out_features: int, d_pool: str, fused: bool, name: str) -> None:
        super().__init__(name=name, autocast=False)
        self.d_pool = d_pool
        self.conv0 = EqualizedConv2D(in_features, name="conv0")
        self.conv1 = EqualizedConv2D(
            out_features, resample="down" if d_pool == "pre_act" else None, fused=fused, name="conv1"
        )

    def build(self, input_shape: Shape) -> None:
        self.conv0.build(input_shape)
        self.conv1.build(input_shape)
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = leaky_relu(self.conv1(leaky_relu(self.conv0(x))))
        return downscale2(x) if self.d_pool == "post_act" else x


class DiscriminatorOutput(keras.layers.Layer):
    """The last block of the discriminator: features [N, 4, 4, C] -> score and label logits [N, 1 + label_size]."""

    def __init__(self, features: int, label_size: int, mbstd_group_size: int, name: str) -> None:
        super().__init__(name=name, autocast=False)
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
        return self.dense1(tf.cast(x, tf.float32))


class Discriminator(keras.layers.Layer):
    """Images [N, R, R, channels] in -1..1 -> scores [N] (higher is more real) and label logits [N, label_size]."""

    def __init__(
        self,
        config: NetworkConfig,
        *,
        mbstd_group_size: int = 4,
        fused: bool = True,
        activations: str = "float32",
        name: str = "discriminator",
    ) -> None:
        super().__init__(name=name, autocast=False)
        self.config = config
        self.activations = activations
        resolutions = resolutions_up_to(config.resolution)
        self.from_rgb = {
            r: EqualizedConv2D(config.features(r), kernel_size=1, name=f"from_rgb_{r}x{r}") for r in resolutions
        }
        self.blocks = {
            r: DiscriminatorBlock(config.features(r), config.features(r // 2), config.d_pool, fused, name=f"{r}x{r}")
            for r in resolutions[1:]
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
        images = tf.cast(images, self.activations)
        x = leaky_relu(self.from_rgb[resolution](images))
        for r in reversed(resolutions_up_to(resolution)[1:]):
            x = self.blocks[r](x)
            if r == resolution and alpha is not None:
                x = lerp(leaky_relu(self.from_rgb[r // 2](downscale2(images))), x, alpha)
        outputs = self.output_block(x)
        return outputs[:, 0], outputs[:, 1:]

    def stage_weights(self, resolution: int, fading: bool) -> list[keras.Variable]:
        """Return the weights that a stage uses and trains."""
        return _stage_weights(self.output_block, self.blocks, self.from_rgb, resolution, fading)


def _stage_weights(
    block_4x4: keras.layers.Layer,
    blocks: Mapping[int, keras.layers.Layer],
    rgb_layers: Mapping[int, keras.layers.Layer],
    resolution: int,
    fading: bool,
) -> list[keras.Variable]:
    grown = [blocks[r] for r in resolutions_up_to(resolution)[1:]]
    rgb = [rgb_layers[resolution // 2], rgb_layers[resolution]] if fading else [rgb_layers[resolution]]
    return [weight for layer in (block_4x4, *grown, *rgb) for weight in layer.weights]
