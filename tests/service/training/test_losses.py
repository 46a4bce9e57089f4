"""WGAN-GP with numbers that can be worked out by hand."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from progan_service.config import TrainingConfig
from progan_service.training.losses import critic_loss, generator_loss, gradient_penalty


def penalty(slope: float, canvas_scale: float = 1.0, size: int = 2, **settings: Any) -> float:
    """Of the critic `slope * sum of the pixels` for grey images of size x size: its gradient's norm is slope * size."""
    images = tf.zeros([3, size, size, 1])
    value = gradient_penalty(
        lambda x: slope * tf.reduce_sum(x, axis=[1, 2, 3]),
        images,
        images,
        tf.zeros([3]),
        TrainingConfig(**settings),
        canvas_scale,
    )
    return float(value)


def test_the_generator_wants_high_scores() -> None:
    assert float(generator_loss(tf.constant([1.0, 2.0, 6.0]))) == -3.0


def test_the_critic_wants_low_scores_of_fakes_and_high_ones_of_reals() -> None:
    assert float(critic_loss(tf.constant([1.0, 3.0]), tf.constant([5.0, 9.0]), drift_weight=0.0)) == -5.0


def test_drift_costs_the_square_of_the_scores_of_reals_alone() -> None:
    without = critic_loss(tf.constant([100.0, 0.0]), tf.constant([3.0, 4.0]), drift_weight=0.0)
    drifting = critic_loss(tf.constant([100.0, 0.0]), tf.constant([3.0, 4.0]), drift_weight=0.1)
    assert float(drifting - without) == pytest.approx(1.25, rel=1e-5)  # 0.1 * (9 + 16) / 2


def test_a_slope_of_one_costs_nothing() -> None:
    assert penalty(slope=0.5) == pytest.approx(0, abs=1e-6)


def test_a_slope_off_one_costs_its_square_times_ten() -> None:
    assert penalty(slope=1.5) == pytest.approx(10 * (3 - 1) ** 2, rel=1e-5)
    assert penalty(slope=0.25) == pytest.approx(10 * (0.5 - 1) ** 2, rel=1e-5)


def test_another_weight_and_target() -> None:
    # weight / target^2 * (norm - target)^2
    assert penalty(slope=1.5, gp_weight=2, gp_target=6) == pytest.approx(2 / 36 * (3 - 6) ** 2, rel=1e-5)


def test_on_the_canvas_a_norm_halves_with_every_doubling_to_come() -> None:
    # 4x4 of a final 16x16: L = 2, each of 16 canvas pixels takes 1/16 of the gradient, the norm is 1/4 of the native.
    assert penalty(slope=3, canvas_scale=4 / 16, size=4) == pytest.approx(10 * (12 * 2**-2 - 1) ** 2, rel=1e-5)


def test_the_canvas_factor_is_what_the_gradient_on_an_upscaled_image_gives() -> None:
    canvas = tf.Variable(tf.random.stateless_uniform([1, 16, 16, 1], [0, 0]))
    with tf.GradientTape() as tape:
        native = tf.nn.avg_pool2d(canvas, 4, 4, "VALID")  # undoes nearest upscaling
        score = 3 * tf.reduce_sum(native)
    assert float(tf.norm(tape.gradient(score, canvas))) == pytest.approx(12 * 2**-2, rel=1e-5)


def test_the_gradient_is_taken_between_reals_and_fakes() -> None:
    seen = []

    def critic(points: tf.Tensor) -> tf.Tensor:
        seen.append(points.numpy()[:, 0, 0, 0].tolist())
        return tf.reduce_sum(points, axis=[1, 2, 3])

    reals, fakes = tf.zeros([3, 1, 1, 1]), tf.fill([3, 1, 1, 1], 8.0)
    gradient_penalty(critic, reals, fakes, tf.constant([0.0, 0.25, 1.0]), TrainingConfig(), 1.0)
    assert seen == [[0.0, 2.0, 8.0]]


def test_each_image_has_a_norm_of_its_own() -> None:
    slopes = tf.constant([1.0, 3.0])[:, None, None, None]
    images = tf.zeros([2, 1, 1, 1])
    value = gradient_penalty(
        lambda x: tf.reduce_sum(slopes * x, axis=[1, 2, 3]), images, images, tf.zeros([2]), TrainingConfig(), 1.0
    )
    assert float(value) == pytest.approx(10 * (0 + 4) / 2, rel=1e-5)


def test_a_flat_critic_has_a_finite_penalty_and_gradient() -> None:
    weight = tf.Variable(0.0)
    images = tf.zeros([2, 2, 2, 1])
    with tf.GradientTape() as tape:
        value = gradient_penalty(
            lambda x: weight * tf.reduce_sum(x, axis=[1, 2, 3]), images, images, tf.zeros([2]), TrainingConfig(), 1.0
        )
    assert float(value) == pytest.approx(10, rel=1e-3)
    assert np.isfinite(tape.gradient(value, weight))
