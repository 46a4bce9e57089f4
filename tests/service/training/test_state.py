"""What changes while a run goes on: fresh, entering stages, saved and restored."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from progan_service.model.config import NetworkConfig
from progan_service.training.adam import Adam
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.run.checkpoint import CheckpointError, latest_checkpoint
from progan_service.training.schedule import GrowthSchedule
from progan_service.training.stage import Phase
from progan_service.training.state import TrainingState

CONFIG = RunConfig(
    DatasetConfig("faces", 100),
    NetworkConfig(resolution=16, fmap_base=32, fmap_max=4),
    TrainingConfig(seed=5, stable_kimg=1, fade_kimg=1, batch_sizes={4: 8}, learning_rates={4: 0.001, 8: 0.002}),
)


def configured(**training: Any) -> RunConfig:
    return replace(CONFIG, training=replace(CONFIG.training, **training))


def values(variables: Iterable[keras.Variable | tf.Variable]) -> list[list[float]]:
    return [variable.numpy().ravel().tolist() for variable in variables]


def pretend_adam_has_learned(state: TrainingState) -> None:
    for variable in (*state.generator_adam.variables, *state.discriminator_adam.variables):
        variable.assign(np.ones(variable.shape))


def adam_has_forgotten(adam: Adam) -> bool:
    return not any(np.any(variable) for variable in adam.variables)


def test_the_average_begins_as_the_generator() -> None:
    state = TrainingState.fresh(CONFIG)
    assert values(state.generator_ema.weights) == values(state.generator.weights)


def test_the_seed_decides_the_weights() -> None:
    first, again = TrainingState.fresh(CONFIG), TrainingState.fresh(CONFIG)
    assert values(first.discriminator.weights) == values(again.discriminator.weights)


def test_another_seed_gives_other_weights() -> None:
    first, other = TrainingState.fresh(CONFIG), TrainingState.fresh(configured(seed=6))
    assert values(first.generator.weights) != values(other.generator.weights)


def test_adam_is_the_papers() -> None:
    state = TrainingState.fresh(CONFIG)
    assert state.generator_adam.beta2 == state.discriminator_adam.beta2 == 0.99
    assert adam_has_forgotten(state.generator_adam)
    assert state.generator_adam.second_moments.keys() == {weight.path for weight in state.generator.weights}
    assert state.discriminator_adam.second_moments.keys() == {weight.path for weight in state.discriminator.weights}


def test_precision_and_fusing_change_how_the_networks_compute_and_not_what_they_are() -> None:
    plain, fast = (
        TrainingState.fresh(configured(fused_kernels=False)),
        TrainingState.fresh(configured(precision="bfloat16")),
    )
    for state, activations, fused in ((plain, "float32", False), (fast, "bfloat16", True)):
        assert state.generator.input_block.activations == state.discriminator.activations == activations
        assert state.generator_ema.input_block.activations == activations
        convolutions = state.generator.blocks[8].conv0, state.discriminator.blocks[8].conv1
        assert {convolution.fused for convolution in convolutions} == {fused}
    assert values(plain.generator.weights) == values(fast.generator.weights)
    assert values(plain.discriminator.weights) == values(fast.discriminator.weights)


@pytest.mark.parametrize("fading", [True, False])
def test_entering_a_stage_makes_adam_forget(fading: bool) -> None:
    state = TrainingState.fresh(CONFIG)
    state.stage = (8, not fading)
    pretend_adam_has_learned(state)
    state.enter(Phase(8, 0.5 if fading else 1.0, 8, 0.002))
    assert adam_has_forgotten(state.generator_adam)
    assert adam_has_forgotten(state.discriminator_adam)
    assert int(state.generator_adam.steps) == 0


def test_within_a_stage_adam_remembers() -> None:
    state = TrainingState.fresh(CONFIG)
    state.enter(Phase(8, 0.25, 8, 0.002))
    pretend_adam_has_learned(state)
    state.enter(Phase(8, 0.5, 8, 0.002))
    assert not adam_has_forgotten(state.generator_adam)


def test_adam_forgets_twice_per_resolution() -> None:
    state, schedule, forgot_at = TrainingState.fresh(CONFIG), GrowthSchedule(CONFIG.training, 16), []
    for images_shown in range(0, 6000, 100):
        pretend_adam_has_learned(state)
        state.enter(schedule.at(images_shown))
        if adam_has_forgotten(state.generator_adam):
            forgot_at.append(images_shown)
    assert forgot_at == [1100, 2000, 3100, 4000]  # strictly after a fade starts, and exactly at its end


def test_the_average_moves_by_what_its_decay_leaves() -> None:
    state = TrainingState.fresh(CONFIG)
    for average, weight in zip(state.generator_ema.weights, state.generator.weights, strict=True):
        average.assign(np.full(average.shape, 8.0))
        weight.assign(np.full(weight.shape, 4.0))
    state.move_average(0.75)
    assert {value for part in values(state.generator_ema.weights) for value in part} == {7.0}
    assert {value for part in values(state.generator.weights) for value in part} == {4.0}


def test_a_restored_state_is_the_saved_one(tmp_path: Path) -> None:
    saved = TrainingState.fresh(CONFIG)
    saved.images_shown, saved.stage = 1208, (8, True)
    pretend_adam_has_learned(saved)
    saved.generator_ema.weights[0].assign(np.full(saved.generator_ema.weights[0].shape, 3.0))
    saved.save(tmp_path)

    restored = TrainingState.fresh(CONFIG)
    newest = latest_checkpoint(tmp_path)
    assert newest == tmp_path / "images-000001208.npz"
    restored.restore(newest)
    assert (restored.images_shown, restored.stage) == (1208, (8, True))
    for part in ("generator", "discriminator", "generator_ema", "generator_adam", "discriminator_adam"):
        assert values(getattr(restored, part).variables) == values(getattr(saved, part).variables)


def test_a_copy_beside_the_checkpoints_is_none_and_stays(tmp_path: Path) -> None:
    (tmp_path / "images-000000000_before.npz").write_bytes(b"kept")
    state = TrainingState.fresh(CONFIG)
    for state.images_shown in (8, 999_999_999, 1_000_000_000):
        state.save(tmp_path)
    assert latest_checkpoint(tmp_path) == tmp_path / "images-1000000000.npz"
    assert {file.name for file in tmp_path.iterdir()} == {
        "images-000000000_before.npz",
        "images-999999999.npz",
        "images-1000000000.npz",
    }


def test_a_checkpoint_holds_every_variable(tmp_path: Path) -> None:
    state = TrainingState.fresh(CONFIG)
    state.save(tmp_path)
    parts = (state.generator, state.discriminator, state.generator_ema, state.generator_adam, state.discriminator_adam)
    variables = sum(len(part.variables) for part in parts)
    with np.load(tmp_path / "images-000000000.npz") as archive:
        assert len(archive.files) == variables + len(
            ["format_version", "images_shown", "stage", "config_digest", "sha256"]
        )
        assert str(archive["config_digest"]) == CONFIG.digest


def test_arrays_carry_a_state_over_without_a_file() -> None:
    first, second = TrainingState.fresh(CONFIG), TrainingState.fresh(CONFIG)
    pretend_adam_has_learned(first)
    first.images_shown, first.stage = 5000, (16, False)
    second.assign(first.arrays(), Path("first"))
    assert (second.images_shown, second.stage) == (5000, (16, False))
    assert values(second.discriminator_adam.variables) == values(first.discriminator_adam.variables)


def test_arrays_stay_what_they_are_while_the_state_goes_on() -> None:
    state = TrainingState.fresh(CONFIG)
    before = state.arrays()
    pretend_adam_has_learned(state)
    state.assign(before, Path("before"))
    assert adam_has_forgotten(state.generator_adam)


@pytest.mark.parametrize(
    "other",
    [
        configured(seed=6),
        configured(learning_rates={4: 0.001, 8: 0.003}),
        replace(CONFIG, network=replace(CONFIG.network, fmap_max=8)),
        replace(CONFIG, dataset=replace(CONFIG.dataset, digest="ffff")),
    ],
)
def test_another_runs_checkpoint_is_refused(tmp_path: Path, other: RunConfig) -> None:
    saved = TrainingState.fresh(CONFIG)
    saved.images_shown = 8
    saved.save(tmp_path)
    state = TrainingState.fresh(other)
    before = values(state.generator.weights)
    checkpoint = tmp_path / "images-000000008.npz"
    with pytest.raises(CheckpointError, match=f"^{checkpoint}: belongs to a run with another configuration$"):
        state.restore(checkpoint)
    assert values(state.generator.weights) == before
    assert state.images_shown == 0


def test_a_longer_run_is_still_the_same_run(tmp_path: Path) -> None:
    TrainingState.fresh(CONFIG).save(tmp_path)
    TrainingState.fresh(configured(total_kimg=99, tick_kimg={4: 1})).restore(tmp_path / "images-000000000.npz")


def test_arrays_of_other_shapes_are_refused() -> None:
    state = TrainingState.fresh(CONFIG)
    arrays = state.arrays() | {"generator/4x4/bias": np.zeros(8)}
    with pytest.raises(
        CheckpointError, match=r"^here: generator/4x4/bias has shape \(8,\), not \(4,\); another network$"
    ):
        state.assign(arrays, Path("here"))
