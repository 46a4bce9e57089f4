"""Adam without momentum: the same as the known one, but an update that is not finite is left out."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from progan_service.training.adam import Adam


@pytest.fixture
def weights() -> list[keras.Variable]:
    return [keras.Variable([1.0, -2.0], name="kernel"), keras.Variable([0.5], name="bias")]


def update(adam: Adam, weights: list[keras.Variable], *gradients: list[float], learning_rate: float = 0.001) -> float:
    return float(adam.update(weights, [tf.constant(gradient) for gradient in gradients], tf.constant(learning_rate)))


def values(weights: list[keras.Variable]) -> list[list[float]]:
    return [weight.numpy().tolist() for weight in weights]


def test_the_first_step_is_as_long_as_the_learning_rate_whatever_the_gradient(weights: list[keras.Variable]) -> None:
    adam = Adam(weights, 0.99, "adam")
    assert update(adam, weights, [1000.0, -0.001], [7.0]) == 0
    np.testing.assert_allclose(weights[0], [0.999, -1.999], rtol=1e-6)
    np.testing.assert_allclose(weights[1], [0.499], rtol=1e-6)


def test_the_second_step_by_hand(weights: list[keras.Variable]) -> None:
    # v = 0.01 * 9 = 0.09, then 0.99 * 0.09 + 0.01 * 16 = 0.2491; the step is 0.1 * sqrt(1 - 0.99^2) * 4 / sqrt(0.2491).
    adam = Adam(weights, 0.99, "adam")
    update(adam, weights, [0.0, 0.0], [3.0], learning_rate=0.1)
    update(adam, weights, [0.0, 0.0], [4.0], learning_rate=0.1)
    np.testing.assert_allclose(adam.second_moments[weights[1].path], [0.2491], rtol=1e-6)
    np.testing.assert_allclose(weights[1], [0.5 - 0.1 - 0.1 * math.sqrt(0.0199) * 4 / math.sqrt(0.2491)], rtol=1e-5)
    assert int(adam.steps) == 2


def test_a_weight_without_slope_stays(weights: list[keras.Variable]) -> None:
    update(Adam(weights, 0.99, "adam"), weights, [0.0, 1.0], [0.0])
    assert values(weights) == [[1.0, pytest.approx(-2.001)], [0.5]]


def test_it_is_the_adam_of_keras() -> None:
    random = np.random.default_rng(0)
    start = random.normal(size=(3, 5)).astype(np.float32)
    ours, theirs = keras.Variable(start, name="kernel"), keras.Variable(start, name="kernel")
    adam = Adam([ours], 0.99, "adam")
    other = keras.optimizers.Adam(beta_1=0.0, beta_2=0.99, epsilon=1e-8)
    other.build([theirs])
    for _ in range(20):
        gradient = tf.constant(random.normal(size=(3, 5)) * 10 ** random.uniform(-10, 3, (3, 5)), tf.float32)
        learning_rate = float(random.uniform(0.0005, 0.005))
        adam.update([ours], [gradient], tf.constant(learning_rate))
        other.learning_rate.assign(learning_rate)
        other.apply([gradient])
    assert np.abs(ours - start).min() > 1e-4
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("damage", [math.nan, math.inf, -math.inf, 1e30])  # the square of the last one is infinite
def test_a_step_that_is_not_finite_is_left_out_as_a_whole(weights: list[keras.Variable], damage: float) -> None:
    adam = Adam(weights, 0.99, "adam")
    update(adam, weights, [1.0, 2.0], [3.0])
    before = values([*weights, *adam.variables])
    assert update(adam, weights, [1.0, 2.0], [damage]) == 1
    assert values([*weights, *adam.variables]) == before
    assert update(adam, weights, [1.0, 2.0], [3.0]) == 0
    assert int(adam.steps) == 2


def test_weights_that_a_stage_does_not_use_keep_their_moments(weights: list[keras.Variable]) -> None:
    adam = Adam(weights, 0.99, "adam")
    update(adam, weights[1:], [3.0])
    assert values(weights[:1]) == [[1.0, -2.0]]
    assert [variable.numpy().tolist() for variable in adam.variables] == [1, [0, 0], [pytest.approx(0.09)]]


def test_after_forgetting_it_begins_anew(weights: list[keras.Variable]) -> None:
    adam = Adam(weights, 0.99, "adam")
    update(adam, weights, [1.0, 2.0], [3.0])
    adam.forget()
    assert not any(np.any(variable) for variable in adam.variables)
    before = float(weights[1][0])
    update(adam, weights, [1.0, 2.0], [-400.0])
    assert float(weights[1][0]) == pytest.approx(before + 0.001)


def test_its_variables_are_named_after_the_weights(weights: list[keras.Variable]) -> None:
    adam = Adam(weights, 0.99, "generator_adam")
    assert [variable.name.removesuffix(":0") for variable in adam.variables] == [
        "generator_adam/steps",
        "generator_adam/kernel",
        "generator_adam/bias",
    ]


def test_the_learning_rate_varies_inside_a_compiled_step(weights: list[keras.Variable]) -> None:
    adam = Adam(weights, 0.99, "adam")
    step = tf.function(lambda gradient, rate: adam.update(weights[1:], [gradient], rate))
    for rate in (0.001, 0.01, 0.0):
        assert float(step(tf.constant([5.0]), tf.constant(rate))) == 0
    np.testing.assert_allclose(weights[1], [0.5 - 0.001 - 0.01], rtol=1e-5)
    assert float(step(tf.constant([math.nan]), tf.constant(0.001))) == 1
    assert step.experimental_get_tracing_count() == 1
