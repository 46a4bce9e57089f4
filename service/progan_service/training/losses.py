"""WGAN-GP with drift (paper, section 3 and appendix A.1). Scores are [N]; each loss is a mean over the batch."""

from collections.abc import Callable

import tensorflow as tf

from progan_service.training.config import TrainingConfig

Critic = Callable[[tf.Tensor], tf.Tensor]  # images [N, R, R, C] -> scores [N]


def generator_loss(fake_scores: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_mean(fake_scores)


def critic_loss(fake_scores: tf.Tensor, real_scores: tf.Tensor, drift_weight: float) -> tf.Tensor:
    """Wasserstein distance to be maximised, plus a drift term that keeps the scores of reals near zero."""
    return tf.reduce_mean(fake_scores - real_scores + drift_weight * tf.square(real_scores))


def label_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of one-hot labels [N, K] (AC-GAN); 0 without labels, K = 0."""
    if not labels.shape[-1]:
        return tf.constant(0.0)
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))


def gradient_penalty(
    critic: Critic, reals: tf.Tensor, fakes: tf.Tensor, mix: tf.Tensor, config: TrainingConfig, canvas_scale: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """gp_weight / t^2 * (norm - t)^2 at points between reals and fakes, t = gp_target; and the mean norm.

    mix            [N], 0..1: where between a real (0) and a fake (1) the gradient is taken
    canvas_scale   resolution of the stage / final resolution: the norm with respect to the image upscaled to the
                   final resolution is the native norm times this; 1 for the native norm
    """
    points = reals + (fakes - reals) * mix[:, None, None, None]
    with tf.GradientTape() as tape:
        tape.watch(points)
        scores = critic(points)
    gradient = tf.cast(tape.gradient(scores, points), tf.float32)
    norm = canvas_scale * tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3]) + 1e-8)
    penalty = config.gp_weight / config.gp_target**2 * tf.reduce_mean(tf.square(norm - config.gp_target))
    return penalty, tf.reduce_mean(norm)
