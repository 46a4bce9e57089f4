"""WGAN-GP and AC-GAN with numbers that can be worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from progan_service.label_kind import LabelKind
from progan_service.training.config import TrainingConfig
from progan_service.training.losses import discriminator_loss, generator_loss, gradient_penalty, label_loss


def penalty_and_norm(slope: float, canvas_scale: float = 1.0, size: int = 2, **settings: Any) -> tuple[float, float]:
    """Take the discriminator slope * sum(pixels) of grey images: its gradient has the norm slope * size."""
    images = tf.zeros([3, size, size, 1])
    penalty, norm = gradient_penalty(
        lambda x: slope * tf.reduce_sum(x, axis=[1, 2, 3]),
        images,
        images,
        tf.zeros([3]),
        TrainingConfig(**settings),
        canvas_scale,
    )
    return float(penalty), float(norm)


def penalty(slope: float, **settings: Any) -> float:
    return penalty_and_norm(slope, **settings)[0]


def test_the_generator_wants_high_scores() -> None:
    assert float(generator_loss(tf.constant([1.0, 2.0, 6.0]))) == -3.0


def test_the_discriminator_wants_low_scores_of_fakes_and_high_ones_of_reals() -> None:
    assert float(discriminator_loss(tf.constant([1.0, 3.0]), tf.constant([5.0, 9.0]), drift_weight=0.0)) == -5.0


def test_drift_costs_the_square_of_the_scores_of_reals_alone() -> None:
    without = discriminator_loss(tf.constant([100.0, 0.0]), tf.constant([3.0, 4.0]), drift_weight=0.0)
    drifting = discriminator_loss(tf.constant([100.0, 0.0]), tf.constant([3.0, 4.0]), drift_weight=0.1)
    assert float(drifting - without) == pytest.approx(1.25, rel=1e-5)  # 0.1 * (9 + 16) / 2


def test_a_slope_of_one_costs_nothing() -> None:
    assert penalty(slope=0.5) == pytest.approx(0, abs=1e-6)


def test_a_slope_off_one_costs_its_square_times_ten() -> None:
    assert penalty(slope=1.5) == pytest.approx(10 * (3 - 1) ** 2, rel=1e-5)
    assert penalty(slope=0.25) == pytest.approx(10 * (0.5 - 1) ** 2, rel=1e-5)


def test_another_weight_and_target() -> None:
    # weight / target^2 * (norm - target)^2
    assert penalty(slope=1.5, gp_weight=2, gp_target=6) == pytest.approx(2 / 36 * (3 - 6) ** 2, rel=1e-5)


def test_the_norm_is_told_beside_what_it_costs() -> None:
    assert penalty_and_norm(slope=1.5) == pytest.approx((40, 3), rel=1e-5)


@pytest.mark.parametrize(("final", "norm"), [(4, 12), (8, 6), (16, 3), (128, 0.375), (1024, 0.046875)])
def test_on_the_canvas_a_norm_halves_with_every_doubling_to_come(final: int, norm: float) -> None:
    # 4x4 of a final 16x16: L = 2, each of 16 canvas pixels takes 1/16 of the gradient, the norm is 1/4 of the native.
    found = penalty_and_norm(slope=3, canvas_scale=4 / final, size=4)
    assert found == pytest.approx((10 * (norm - 1) ** 2, norm), rel=1e-5)


@pytest.mark.parametrize(("final", "norm"), [(8, 6), (16, 3), (64, 0.75)])
def test_the_canvas_factor_is_what_the_gradient_on_an_upscaled_image_gives(final: int, norm: float) -> None:
    canvas = tf.Variable(tf.random.stateless_uniform([1, final, final, 1], [0, 0]))
    with tf.GradientTape() as tape:
        native = tf.nn.avg_pool2d(canvas, final // 4, final // 4, "VALID")  # undoes nearest upscaling
        score = 3 * tf.reduce_sum(native)
    assert float(tf.norm(tape.gradient(score, canvas))) == pytest.approx(norm, rel=1e-5)


def test_the_gradient_is_taken_between_reals_and_fakes() -> None:
    seen = []

    def discriminator(points: tf.Tensor) -> tf.Tensor:
        seen.append(points.numpy()[:, 0, 0, 0].tolist())
        return tf.reduce_sum(points, axis=[1, 2, 3])

    reals, fakes = tf.zeros([3, 1, 1, 1]), tf.fill([3, 1, 1, 1], 8.0)
    gradient_penalty(discriminator, reals, fakes, tf.constant([0.0, 0.25, 1.0]), TrainingConfig(), 1.0)
    assert seen == [[0.0, 2.0, 8.0]]


def test_each_image_has_a_norm_of_its_own() -> None:
    slopes = tf.constant([1.0, 3.0])[:, None, None, None]
    images = tf.zeros([2, 1, 1, 1])
    value, norm = gradient_penalty(
        lambda x: tf.reduce_sum(slopes * x, axis=[1, 2, 3]), images, images, tf.zeros([2]), TrainingConfig(), 1.0
    )
    assert float(value) == pytest.approx(10 * (0 + 4) / 2, rel=1e-5)
    assert float(norm) == pytest.approx(2, rel=1e-5)


def test_a_flat_discriminator_has_a_finite_penalty_and_gradient() -> None:
    weight = tf.Variable(0.0)
    images = tf.zeros([2, 2, 2, 1])
    with tf.GradientTape() as tape:
        value, _ = gradient_penalty(
            lambda x: weight * tf.reduce_sum(x, axis=[1, 2, 3]), images, images, tf.zeros([2]), TrainingConfig(), 1.0
        )
    assert float(value) == pytest.approx(10, rel=1e-3)
    assert np.isfinite(tape.gradient(value, weight))


def test_the_norm_of_a_bfloat16_gradient_is_taken_in_float32() -> None:
    # One slope of 16 and 63 of 1/4: in bfloat16 256 + 63/16 is 260.
    slopes = tf.tensor_scatter_nd_update(tf.fill([1, 8, 8, 1], 1 / 4), [[0, 0, 0, 0]], [16.0])
    images = tf.zeros([1, 8, 8, 1], tf.bfloat16)
    penalty, norm = gradient_penalty(
        lambda x: tf.reduce_sum(tf.cast(slopes, tf.bfloat16) * x, axis=[1, 2, 3]),
        images,
        images,
        tf.zeros([1], tf.bfloat16),
        TrainingConfig(),
        1.0,
    )
    assert penalty.dtype == norm.dtype == tf.float32
    assert float(norm) == pytest.approx(math.sqrt(256 + 63 / 16), rel=1e-5)


# Labels


def test_labels_cost_their_cross_entropy() -> None:
    # Of the label's share: exp(0) / (exp(0) + exp(ln 3)) = 1/4, and 3/4.
    logits = tf.constant([[0.0, math.log(3)], [0.0, math.log(3)]])
    assert float(label_loss(logits, tf.constant([[1.0, 0.0], [1.0, 0.0]]), "classes")) == pytest.approx(math.log(4))
    assert float(label_loss(logits, tf.constant([[0.0, 1.0], [0.0, 1.0]]), "classes")) == pytest.approx(math.log(4 / 3))
    assert float(label_loss(logits, tf.eye(2), "classes")) == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_a_discriminator_that_does_not_know_pays_for_every_label() -> None:
    assert float(label_loss(tf.zeros([5, 8]), tf.one_hot([0, 1, 2, 3, 7], 8), "classes")) == pytest.approx(
        3 * math.log(2)
    )


def test_each_attribute_costs_by_itself() -> None:
    # The discriminator gives the first attribute a quarter and the second one half: sigmoid(-ln 3) = 1/4.
    logits = tf.constant([[-math.log(3), 0.0]])
    for labels, cost in (([0, 0], 4 / 3 * 2), ([1, 0], 4 * 2), ([0, 1], 4 / 3 * 2), ([1, 1], 4 * 2)):
        loss = label_loss(logits, tf.constant([labels], tf.float32), "attributes")
        assert float(loss) == pytest.approx(math.log(cost))


def test_attributes_cost_what_numpy_says_and_so_do_their_gradients() -> None:
    random = np.random.default_rng(1)
    logits, labels = random.normal(0, 4, (6, 5)), random.integers(0, 2, (6, 5)).astype(float)
    sigmoid = 1 / (1 + np.exp(-logits))
    log_likelihood = labels * np.log(sigmoid) + (1 - labels) * np.log(1 - sigmoid)
    given = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = label_loss(given, tf.constant(labels, tf.float32), "attributes")
    assert float(loss) == pytest.approx(-log_likelihood.sum() / 6, rel=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, given), (sigmoid - labels) / 6, atol=1e-6)


def test_attributes_cost_a_finite_sum_even_if_the_discriminator_is_certain() -> None:
    loss = label_loss(tf.constant([[1000.0, -1000.0]]), tf.constant([[0.0, 1.0]]), "attributes")
    assert float(loss) == 2000


@pytest.mark.parametrize("kind", ["classes", "attributes"])
def test_without_labels_there_is_nothing_to_pay(kind: LabelKind) -> None:
    assert float(label_loss(tf.zeros([5, 0]), tf.zeros([5, 0]), kind)) == 0
