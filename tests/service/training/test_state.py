"""What changes while a run goes on: fresh, entering stages, saved and restored."""

from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import pytest

from progan_service.config import DatasetConfig, NetworkConfig, RunConfig, TrainingConfig
from progan_service.training.checkpoint import CheckpointError, latest_checkpoint
from progan_service.training.schedule import GrowthSchedule, Phase
from progan_service.training.state import TrainingState

CONFIG = RunConfig(
    DatasetConfig("faces", 100),
    NetworkConfig(resolution=16, fmap_base=32, fmap_max=4),
    TrainingConfig(seed=5, stable_kimg=1, fade_kimg=1, batch_sizes={4: 8}, learning_rates={4: 0.001, 8: 0.002}),
)


def values(variables: Iterable[keras.Variable]) -> list[list[float]]:
    return [variable.numpy().ravel().tolist() for variable in variables]


def pretend_adam_has_learned(state: TrainingState) -> None:
    for variable in (*state.generator_adam.variables, *state.discriminator_adam.variables):
        variable.assign(np.ones(variable.shape))


def adam_has_forgotten(adam: keras.optimizers.Adam) -> bool:
    return not any(np.any(variable) for variable in adam.variables if variable is not adam.learning_rate)


def test_the_average_begins_as_the_generator() -> None:
    state = TrainingState.fresh(CONFIG)
    assert values(state.generator_ema.weights) == values(state.generator.weights)


def test_the_seed_decides_the_weights() -> None:
    first, again = TrainingState.fresh(CONFIG), TrainingState.fresh(CONFIG)
    assert values(first.discriminator.weights) == values(again.discriminator.weights)


def test_adam_is_the_papers() -> None:
    adam = TrainingState.fresh(CONFIG).generator_adam
    assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.0, 0.99, 1e-8)


@pytest.mark.parametrize("fading", [True, False])
def test_entering_a_stage_makes_adam_forget(fading: bool) -> None:
    state = TrainingState.fresh(CONFIG)
    state.stage = (8, not fading)
    pretend_adam_has_learned(state)
    state.enter(Phase(8, 0.5 if fading else 1.0, 8, 0.002))
    assert adam_has_forgotten(state.generator_adam)
    assert adam_has_forgotten(state.discriminator_adam)
    assert int(state.generator_adam.iterations) == 0


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


def test_entering_a_stage_sets_the_learning_rate() -> None:
    state = TrainingState.fresh(CONFIG)
    state.enter(Phase(8, 0.25, 8, 0.002))
    assert float(state.generator_adam.learning_rate) == pytest.approx(0.002)
    assert float(state.discriminator_adam.learning_rate) == pytest.approx(0.002)


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


def test_a_checkpoint_holds_every_variable(tmp_path: Path) -> None:
    state = TrainingState.fresh(CONFIG)
    state.save(tmp_path)
    parts = (state.generator, state.discriminator, state.generator_ema, state.generator_adam, state.discriminator_adam)
    variables = sum(len(part.variables) for part in parts)
    with np.load(tmp_path / "images-000000000.npz") as archive:
        assert len(archive.files) == variables + len(["images_shown", "stage"])


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    TrainingState.fresh(CONFIG).save(tmp_path)
    wider = RunConfig(CONFIG.dataset, NetworkConfig(resolution=16, fmap_base=32, fmap_max=8), CONFIG.training)
    with pytest.raises(CheckpointError, match=r"generator/4x4/bias has shape \(4,\), not \(8,\); another network$"):
        TrainingState.fresh(wider).restore(tmp_path / "images-000000000.npz")
