"""One training step: update the discriminator, the generator and the averaged generator. Compiled once per stage.

A batch is computed in pieces: one per replica, and several in sequence (gradient accumulation) where memory is short.
With P pieces, piece p holds the images p, p + P, p + 2P ... This keeps the groups of the minibatch standard deviation,
the latents and the mean losses of the whole batch, so a run on eight devices equals a run on one, up to rounding.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import partial

import tensorflow as tf

from progan_service.model.layers import downscale2, lerp, upscale2
from progan_service.model.pixels import from_uint8
from progan_service.training.config import RunConfig
from progan_service.training.losses import discriminator_loss, generator_loss, gradient_penalty, label_loss
from progan_service.training.stage import Phase
from progan_service.training.state import TrainingState

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # reals uint8 [N, R, R, C], their labels [N, K], labels to draw [N, K]
Gradients = list[tf.Tensor]
Piece = Callable[[tf.Tensor], tuple[Gradients, dict[str, tf.Tensor]]]  # index of a part -> gradients, losses by name


class Draw(IntEnum):
    """The purpose of a random number. Each has its own stream within a step."""

    DISCRIMINATOR_LATENTS = 0
    PENALTY_MIX = 1
    GENERATOR_LATENTS = 2


class Step:
    """The training step of one stage. Alpha and the learning rate are tensors, so they change without a new trace."""

    def __init__(self, state: TrainingState, config: RunConfig, phase: Phase, parts: int = 1) -> None:
        """`parts` is the number of pieces that each replica computes in sequence."""
        # Grappler's remapper fails with an error on the second gradient of the penalty.
        tf.config.optimizer.set_experimental_options({"remapping": False})
        self.state, self.config = state, config
        self.stage, self.batch_size = phase.stage, phase.batch_size
        self.parts = parts
        self.pieces = parts * state.strategy.num_replicas_in_sync
        self.generator_weights = state.generator.stage_weights(*phase.stage)
        self.discriminator_weights = state.discriminator.stage_weights(*phase.stage)
        # Without `partial` TensorFlow takes all stages for one function, and warns that it is traced too often.
        self._compiled = tf.function(partial(self._step))

    def __call__(
        self, batch: Batch, images_shown: int, alpha: float, learning_rate: float, stop: bool = False
    ) -> dict[str, tf.Tensor]:
        """Take one step and return the losses by name. "stop" is above 0 if any worker asked to stop.

        batch          images and labels of each replica, as `TrainingState.strategy` distributes them
        images_shown   real images before this step; the latents are a function of it and the seed
        """
        numbers = tf.constant(images_shown, tf.int64), tf.constant(alpha), tf.constant(learning_rate)
        with self.state.strategy.scope():
            losses: dict[str, tf.Tensor] = self._compiled(batch, *numbers, tf.constant(float(stop)))
        return losses

    def _step(
        self, batch: Batch, images_shown: tf.Tensor, alpha: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        state, run = self.state, self.state.strategy.run
        gradients, losses = run(self._discriminator_gradients, args=(batch, images_shown, alpha, stop))
        losses["D_skipped"] = state.discriminator_adam.update(self.discriminator_weights, gradients, learning_rate)
        gradients, generator_losses = run(self._generator_gradients, args=(batch, images_shown, alpha))
        losses["G_skipped"] = state.generator_adam.update(self.generator_weights, gradients, learning_rate)
        state.move_average(0.5 ** (self.batch_size / self._halflife_images(images_shown)))
        return {name: state.local(value) for name, value in {**losses, **generator_losses}.items()}

    def _halflife_images(self, images_shown: tf.Tensor) -> float | tf.Tensor:
        """Return the half-life of the averaged generator. With a ramp it grows with the images shown."""
        training = self.config.training
        halflife = 1000.0 * training.ema_halflife_kimg
        if not training.ema_rampup:
            return halflife
        return tf.minimum(halflife, training.ema_rampup * tf.cast(images_shown + self.batch_size, tf.float32))

    def _discriminator_gradients(
        self, batch: Batch, images_shown: tf.Tensor, alpha: tf.Tensor, stop: tf.Tensor
    ) -> tuple[Gradients, dict[str, tf.Tensor]]:
        training = self.config.training

        def piece(part: tf.Tensor) -> tuple[Gradients, dict[str, tf.Tensor]]:
            reals, labels, _ = (self._of_part(values, part) for values in batch)
            reals = self._faded(from_uint8(reals), alpha)
            fakes = self._generate(self._latents(Draw.DISCRIMINATOR_LATENTS, images_shown, part), labels, alpha)
            mix = tf.random.stateless_uniform([self.batch_size], self._stream(Draw.PENALTY_MIX, images_shown))
            with tf.GradientTape() as tape:
                real_scores, real_logits = self._discriminate(reals, alpha)
                fake_scores, fake_logits = self._discriminate(fakes, alpha)
                penalty, norm = gradient_penalty(
                    lambda x: self._discriminate(x, alpha)[0],
                    reals,
                    fakes,
                    self._of_piece(mix, part),
                    training,
                    self._canvas_scale,
                )
                loss = discriminator_loss(fake_scores, real_scores, training.drift_weight) + penalty
                loss += self._label_loss(real_logits, labels) + self._label_loss(fake_logits, labels)
            distance = tf.reduce_mean(real_scores) - tf.reduce_mean(fake_scores)
            losses = {"D": loss, "penalty": penalty, "penalty_norm": norm, "distance": distance}
            losses["stop"] = tf.identity(stop)  # a tensor shared by the replicas cannot be reduced
            return tape.gradient(loss, self.discriminator_weights), losses

        return self._mean_of_pieces(piece)

    def _generator_gradients(
        self, batch: Batch, images_shown: tf.Tensor, alpha: tf.Tensor
    ) -> tuple[Gradients, dict[str, tf.Tensor]]:
        def piece(part: tf.Tensor) -> tuple[Gradients, dict[str, tf.Tensor]]:
            labels = self._of_part(batch[2], part)
            latents = self._latents(Draw.GENERATOR_LATENTS, images_shown, part)
            with tf.GradientTape() as tape:
                scores, logits = self._discriminate(self._generate(latents, labels, alpha), alpha)
                loss = generator_loss(scores) + self._label_loss(logits, labels)
            return tape.gradient(loss, self.generator_weights), {"G": loss}

        return self._mean_of_pieces(piece)

    def _mean_of_pieces(self, piece: Piece) -> tuple[Gradients, dict[str, tf.Tensor]]:
        """Return the means over all parts and replicas, equal on every replica. Call it in a replica context."""
        total = piece(tf.constant(0))
        if self.parts > 1:
            _, total = tf.while_loop(
                lambda part, _: part < self.parts,
                lambda part, total: (part + 1, tf.nest.map_structure(tf.add, total, piece(part))),
                (tf.constant(1), total),
                parallel_iterations=1,
            )
            total = tf.nest.map_structure(lambda value: value / self.parts, total)
        flat = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.nest.flatten(total))
        gradients, losses = tf.nest.pack_sequence_as(total, flat)
        return gradients, losses

    def _generate(self, latents: tf.Tensor, labels: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
        blend = alpha if self.stage.fading else None
        return self.state.generator(latents, labels, resolution=self.stage.resolution, alpha=blend)

    def _discriminate(self, images: tf.Tensor, alpha: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        blend = alpha if self.stage.fading else None
        scores, logits = self.state.discriminator(images, resolution=self.stage.resolution, alpha=blend)
        return scores, logits

    def _label_loss(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return label_loss(logits, labels, self.config.dataset.label_kind)

    def _faded(self, reals: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
        """Blend the reals with their half-resolution version, as the networks blend their layers."""
        return lerp(upscale2(downscale2(reals)), reals, alpha) if self.stage.fading else reals

    def _latents(self, purpose: Draw, images_shown: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        shape = [self.batch_size, self.config.network.latents]
        return self._of_piece(tf.random.stateless_normal(shape, self._stream(purpose, images_shown)), part)

    def _stream(self, purpose: Draw, images_shown: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.constant(self.config.training.seed * len(Draw) + purpose, tf.int64), images_shown])

    def _of_piece(self, values: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        """Select from values [N, ...] of the whole batch those of a part of this replica."""
        context = tf.distribute.get_replica_context()
        piece = context.replica_id_in_sync_group + context.num_replicas_in_sync * part
        return tf.reshape(values, [-1, self.pieces, *values.shape[1:]])[:, piece]

    def _of_part(self, values: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        """Select from values [N / replicas, ...] of this replica those of a part."""
        return tf.reshape(values, [-1, self.parts, *values.shape[1:]])[:, part]

    @property
    def _canvas_scale(self) -> float:
        """Resolution of the stage / resolution of the images that the penalty's norm refers to."""
        on_canvas = self.config.training.gp_reference == "canvas"
        return self.stage.resolution / self.config.network.resolution if on_canvas else 1.0
