"""The WGAN-GP losses with drift (paper, appendix A.1). Scores are [N]; each loss is a mean over the batch."""

from collections.abc import Callable

import tensorflow as tf

from progan_service.label_kind import LabelKind
from progan_service.training.config import TrainingConfig

Score = Callable[[tf.Tensor], tf.Tensor]  # the discriminator: images [N, R, R, C] -> scores [N]


def generator_loss(fake_scores: tf.Tensor) -> tf.Tensor:
    """Return -mean(D(fake)): the generator maximises the scores of its images."""
    return -tf.reduce_mean(fake_scores)


def discriminator_loss(fake_scores: tf.Tensor, real_scores: tf.Tensor, drift_weight: float) -> tf.Tensor:
    """Return mean(D(fake) - D(real) + drift_weight D(real)^2). The drift term keeps the scores of reals near zero."""
    return tf.reduce_mean(fake_scores - real_scores + drift_weight * tf.square(real_scores))


def label_loss(logits: tf.Tensor, labels: tf.Tensor, kind: LabelKind) -> tf.Tensor:
    """Return the cross-entropy of logits [N, K] and labels [N, K], the mean over the images; 0 without labels (K = 0).

    classes      softmax, for one-hot labels: -log p of the class (AC-GAN)
    attributes   a sigmoid a column: -log p of each attribute as it is, 1 or 0, summed over the attributes (as StarGAN)
    """
    if not labels.shape[-1]:
        return tf.constant(0.0)
    if kind == "attributes":
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        return tf.reduce_mean(tf.reduce_sum(each, axis=-1))
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))


def gradient_penalty(
    score: Score, reals: tf.Tensor, fakes: tf.Tensor, mix: tf.Tensor, config: TrainingConfig, canvas_scale: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the penalty mean(gp_weight / t^2 * (norm - t)^2) with t = gp_target, and the mean gradient norm.

    norm is the length of the gradient of the score at a point between a real and a fake image.

    mix            [N], the position of that point: 0 at the real image, 1 at the fake one
    canvas_scale   resolution of the stage / final resolution, which turns the native norm into the norm with respect to
                   the image upscaled to the final resolution; 1 keeps the native norm
    """
    points = reals + (fakes - reals) * mix[:, None, None, None]
    with tf.GradientTape() as tape:
        tape.watch(points)
        scores = score(points)
    gradient = tf.cast(tape.gradient(scores, points), tf.float32)
    norm = canvas_scale * tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3]) + 1e-8)
    penalty = config.gp_weight / config.gp_target**2 * tf.reduce_mean(tf.square(norm - config.gp_target))
    return penalty, tf.reduce_mean(norm)
