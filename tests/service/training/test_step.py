"""One step of a stage, on real networks of a few features."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.config import DatasetConfig, NetworkConfig, RunConfig, TrainingConfig
from progan_service.training.schedule import Phase
from progan_service.training.state import TrainingState
from progan_service.training.step import compile_step

CONFIG = RunConfig(
    DatasetConfig("faces", 100),
    NetworkConfig(resolution=8, fmap_base=16, fmap_max=4),
    TrainingConfig(seed=5, batch_sizes={4: 4}, ema_halflife_kimg=0.004),  # half-life: one batch
)
STABLE_4 = Phase(4, 1.0, 4, 0.001)
FADING_8 = Phase(8, 0.25, 4, 0.001)
UNMOVED = 1e-30  # a learning rate too small to change a weight


def configured(**training: Any) -> RunConfig:
    return replace(CONFIG, training=replace(CONFIG.training, **training))


def reals(resolution: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (4, resolution, resolution, 3), dtype=np.uint8)


def take_step(
    state: TrainingState,
    config: RunConfig,
    phase: Phase,
    pixels: NDArray[np.uint8] | None = None,
    images_shown: int = 0,
) -> dict[str, float]:
    state.enter(phase)
    step = compile_step(state, config, phase)
    pixels = reals(phase.resolution) if pixels is None else pixels
    losses = step(tf.constant(pixels), tf.constant(images_shown, tf.int64), tf.constant(phase.alpha))
    return {name: float(value) for name, value in losses.items()}


def mean_score(state: TrainingState, pixels: NDArray[Any], phase: Phase) -> float:
    """Of images 0..255 as they are, by the critic."""
    images = tf.constant(pixels * (2 / 255) - 1, tf.float32)
    return float(tf.reduce_mean(state.discriminator(images, resolution=phase.resolution, alpha=phase.alpha)[0]))


def arrays(weights: Iterable[keras.Variable]) -> dict[str, NDArray[np.float32]]:
    return {weight.path.split("/", 1)[1]: weight.numpy().copy() for weight in weights}


def changed(before: dict[str, NDArray[np.float32]], after: dict[str, NDArray[np.float32]]) -> set[str]:
    return {name.split("/")[0] for name in before if not np.array_equal(before[name], after[name])}


def test_a_stage_trains_only_the_layers_it_runs() -> None:
    state = TrainingState.fresh(CONFIG)
    generator, discriminator = arrays(state.generator.weights), arrays(state.discriminator.weights)
    take_step(state, CONFIG, STABLE_4)
    assert changed(generator, arrays(state.generator.weights)) == {"4x4", "to_rgb_4x4"}
    assert changed(discriminator, arrays(state.discriminator.weights)) == {"4x4", "from_rgb_4x4"}


def test_a_fade_trains_both_resolutions() -> None:
    state = TrainingState.fresh(CONFIG)
    generator, discriminator = arrays(state.generator.weights), arrays(state.discriminator.weights)
    take_step(state, CONFIG, FADING_8)
    assert changed(generator, arrays(state.generator.weights)) == {"4x4", "8x8", "to_rgb_4x4", "to_rgb_8x8"}
    assert changed(discriminator, arrays(state.discriminator.weights)) == {"4x4", "8x8", "from_rgb_4x4", "from_rgb_8x8"}


def test_the_average_moves_half_of_the_way_in_its_half_life() -> None:
    state = TrainingState.fresh(CONFIG)
    before = arrays(state.generator_ema.weights)
    take_step(state, CONFIG, STABLE_4)
    generator, average = arrays(state.generator.weights), arrays(state.generator_ema.weights)
    for name in before:
        np.testing.assert_allclose(average[name], (before[name] + generator[name]) / 2, atol=1e-6)


def test_the_average_is_slower_with_a_longer_half_life() -> None:
    state = TrainingState.fresh(CONFIG)
    before = arrays(state.generator_ema.weights)["4x4/dense/kernel"]
    take_step(state, configured(ema_halflife_kimg=0.008), STABLE_4)  # two batches: 1 - 0.5 ** 0.5 of the way
    generator, average = state.generator.input_block.dense.kernel, state.generator_ema.input_block.dense.kernel
    np.testing.assert_allclose(average, before + (generator - before) * 0.29289322, atol=1e-6)


def test_every_step_draws_latents_of_its_own() -> None:
    steps = [take_step(TrainingState.fresh(CONFIG), CONFIG, STABLE_4, images_shown=n) for n in (0, 4, 0)]
    assert steps[0]["D"] != steps[1]["D"]
    assert steps[0] == steps[2]


def test_the_generator_learns_from_latents_that_the_critic_has_not_seen() -> None:
    state = TrainingState.fresh(CONFIG)
    losses = take_step(state, CONFIG, replace(STABLE_4, learning_rate=UNMOVED))
    seen_by_the_critic = mean_score(state, reals(4), STABLE_4) - losses["distance"]
    assert -losses["G"] != pytest.approx(seen_by_the_critic, abs=1e-3)


def test_the_loss_of_the_critic_is_what_its_parts_make() -> None:
    losses = take_step(TrainingState.fresh(CONFIG), configured(drift_weight=0), STABLE_4)
    assert losses["D"] == pytest.approx(losses["penalty"] - losses["distance"], rel=1e-5)


def test_reals_fade_like_the_networks() -> None:
    # Detail that 2x2 means do not show: at alpha 0.5 the critic is to see half of it.
    half_faded = Phase(8, 0.5, 4, UNMOVED)
    coarse = np.random.default_rng(1).integers(50, 200, (4, 4, 4, 3)).repeat(2, axis=1).repeat(2, axis=2)
    detail = np.tile([[[20], [-20]], [[-20], [20]]], (4, 4, 1))
    state = TrainingState.fresh(CONFIG)
    state.enter(half_faded)
    step = compile_step(state, CONFIG, half_faded)

    def distance(pixels: NDArray[np.int64]) -> float:
        return float(step(tf.constant(pixels, tf.uint8), tf.constant(0, tf.int64), tf.constant(0.5))["distance"])

    seen = mean_score(state, coarse + detail // 2, half_faded) - mean_score(state, coarse, half_faded)
    assert distance(coarse + detail) - distance(coarse) == pytest.approx(seen, abs=1e-5)
    assert abs(seen) > 1e-3


def test_on_the_canvas_a_stage_of_half_the_size_has_half_the_slope() -> None:
    def slope(gp_reference: str) -> float:
        config = configured(gp_reference=gp_reference, gp_target=1e-4, batch_sizes={4: 1})
        losses = take_step(TrainingState.fresh(config), config, Phase(4, 1.0, 1, 0.001), reals(4)[:1])
        return 1e-4 * (1 + (losses["penalty"] / 10) ** 0.5)  # penalty = 10 / target^2 * (slope - target)^2

    assert slope("canvas") == pytest.approx(slope("native") / 2, rel=1e-4)


def test_an_update_that_is_not_finite_is_left_out_and_counted() -> None:
    overflowing = configured(gp_weight=3e38)
    state = TrainingState.fresh(overflowing)
    generator, discriminator = arrays(state.generator.weights), arrays(state.discriminator.weights)
    losses = take_step(state, overflowing, STABLE_4)
    assert (losses["D_skipped"], losses["G_skipped"]) == (1, 0)
    assert not changed(discriminator, arrays(state.discriminator.weights))
    assert changed(generator, arrays(state.generator.weights))
    assert int(state.discriminator_adam.iterations) == 0
    assert int(state.generator_adam.iterations) == 1
