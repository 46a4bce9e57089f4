"""Every preset is a configuration that can run."""

import pytest

from progan_service.config import NetworkConfig, TrainingConfig, training_values
from progan_service.training.presets import load_preset, preset_names
from progan_service.training.schedule import GrowthSchedule


def test_the_presets() -> None:
    assert preset_names() == ["cpu-small"]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_a_valid_configuration(name: str) -> None:
    preset = load_preset(name)
    NetworkConfig(resolution=32, **preset["network"])
    TrainingConfig(**training_values(preset["training"]))
    assert preset["about"].endswith(".")


def test_the_small_preset_reaches_32_pixels_and_stays_there_for_a_third_of_its_time() -> None:
    training = TrainingConfig(**training_values(load_preset("cpu-small")["training"]))
    schedule = GrowthSchedule(training, 32)
    assert schedule.at(72_000).resolution == 32
    assert not schedule.at(72_000).fading
    assert training.total_kimg == 110
