"""One training step: the critic learns, the generator learns, the average follows. Compiled once a stage."""

from enum import IntEnum
from typing import Any

import keras
import tensorflow as tf

from progan_service.config import RunConfig
from progan_service.model.layers import downscale2, lerp, upscale2
from progan_service.model.pixels import from_uint8
from progan_service.training.losses import critic_loss, generator_loss, gradient_penalty
from progan_service.training.schedule import Phase
from progan_service.training.state import TrainingState

Step = Any  # a compiled function: (reals uint8 [N, R, R, C], images_shown int64, alpha float32) -> losses by name


class Draw(IntEnum):
    """What a random number is for: keeps the streams of one step apart."""

    CRITIC_LATENTS = 0
    PENALTY_MIX = 1
    GENERATOR_LATENTS = 2


def compile_step(state: TrainingState, config: RunConfig, phase: Phase) -> Step:
    """The step of a stage; alpha and the learning rate vary inside it without tracing again."""
    # This optimization fails, loudly, on the second gradient of the penalty.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    network, training = config.network, config.training
    batch, resolution, fading = phase.batch_size, phase.resolution, phase.fading
    canvas_scale = resolution / network.resolution if training.gp_reference == "canvas" else 1.0
    ema_decay = 0.5 ** (batch / (1000 * training.ema_halflife_kimg))

    def latents(purpose: Draw, images_shown: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal([batch, network.latent_size], _stream(training.seed, purpose, images_shown))

    def generate(z: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
        return state.generator(z, resolution=resolution, alpha=alpha if fading else None)

    def score(images: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
        return state.discriminator(images, resolution=resolution, alpha=alpha if fading else None)[0]

    def critic_step(reals: tf.Tensor, images_shown: tf.Tensor, alpha: tf.Tensor) -> dict[str, tf.Tensor]:
        fakes = generate(latents(Draw.CRITIC_LATENTS, images_shown), alpha)
        mix = tf.random.stateless_uniform([batch], _stream(training.seed, Draw.PENALTY_MIX, images_shown))
        with tf.GradientTape() as tape:
            real_scores, fake_scores = score(reals, alpha), score(fakes, alpha)
            penalty = gradient_penalty(lambda x: score(x, alpha), reals, fakes, mix, training, canvas_scale)
            loss = critic_loss(fake_scores, real_scores, training.drift_weight) + penalty
        skipped = _update(state.discriminator_adam, tape, loss, state.discriminator.trainable_variables)
        distance = tf.reduce_mean(real_scores) - tf.reduce_mean(fake_scores)
        return {"D": loss, "penalty": penalty, "distance": distance, "D_skipped": skipped}

    def generator_step(images_shown: tf.Tensor, alpha: tf.Tensor) -> dict[str, tf.Tensor]:
        z = latents(Draw.GENERATOR_LATENTS, images_shown)
        with tf.GradientTape() as tape:
            loss = generator_loss(score(generate(z, alpha), alpha))
        skipped = _update(state.generator_adam, tape, loss, state.generator.trainable_variables)
        return {"G": loss, "G_skipped": skipped}

    @tf.function(
        input_signature=[
            tf.TensorSpec([batch, resolution, resolution, network.channels], tf.uint8),
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([], tf.float32),
        ]
    )
    def step(reals: tf.Tensor, images_shown: tf.Tensor, alpha: tf.Tensor) -> dict[str, tf.Tensor]:
        reals = from_uint8(reals)
        if fading:
            reals = lerp(upscale2(downscale2(reals)), reals, alpha)  # reals fade like the networks
        losses = critic_step(reals, images_shown, alpha) | generator_step(images_shown, alpha)
        for average, weight in zip(state.generator_ema.weights, state.generator.weights, strict=True):
            average.assign(weight + (average - weight) * ema_decay)
        return losses

    return step


def _stream(seed: int, purpose: Draw, images_shown: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(seed * len(Draw) + purpose, tf.int64), images_shown])


def _update(
    adam: keras.optimizers.Adam, tape: tf.GradientTape, loss: tf.Tensor, weights: list[keras.Variable]
) -> tf.Tensor:
    """One step of Adam on the weights that the stage uses; those of other resolutions have no gradient.

    A gradient that is not finite would spoil the weights for good: the whole step is left out then, and 1 returned.
    """
    pairs = [pair for pair in zip(tape.gradient(loss, weights), weights, strict=True) if pair[0] is not None]
    finite = tf.math.is_finite(tf.linalg.global_norm([gradient for gradient, _ in pairs]))
    if finite:
        adam.apply_gradients(pairs)
    return 1.0 - tf.cast(finite, tf.float32)
