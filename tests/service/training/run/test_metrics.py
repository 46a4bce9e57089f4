"""SWD and MS-SSIM during a run: how often the reals are measured, and what the figures are."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import pytest

from progan_service.data.dataset import Dataset
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.run.metrics import RunMetrics
from progan_service.training.stage import Phase

CONFIG = RunConfig(
    DatasetConfig("faces", 24),
    NetworkConfig(resolution=16, fmap_base=32, fmap_max=8),
    TrainingConfig(seed=5, batch_sizes={4: 8}, metric_images=16),
)
STABLE_8, FADING_16, STABLE_16 = Phase(8, 1.0, 8, 0.001), Phase(16, 0.5, 8, 0.001), Phase(16, 1.0, 8, 0.001)


@pytest.fixture
def generator() -> Generator:
    keras.utils.set_random_seed(1)
    return Generator(CONFIG.network)


@pytest.fixture
def metrics(watched: Any) -> Iterator[RunMetrics]:
    metrics = RunMetrics(watched, CONFIG)
    yield metrics
    metrics.close()


def test_reals_are_measured_once_a_resolution(metrics: RunMetrics, watched: Any, generator: Generator) -> None:
    reads = []
    for phase in (STABLE_8, STABLE_8, FADING_16, STABLE_16, STABLE_16):
        evaluation = metrics.evaluate(generator, phase)
        assert (evaluation.resolution, evaluation.image_count, evaluation.seed) == (phase.resolution, 16, 5)
        reads.append([resolution for resolution, _ in watched.read])
        watched.read.clear()
    assert reads == [[8, 8], [], [16, 16], [], []]


def test_the_same_generator_always_gets_the_same_figures(metrics: RunMetrics, generator: Generator) -> None:
    first, between, again = (metrics.evaluate(generator, phase) for phase in (STABLE_16, STABLE_8, STABLE_16))
    assert first == again
    assert list(between.fakes.swd) == [8]
    assert list(first.fakes.swd) == [16]


def test_a_generator_that_has_learned_nothing_is_far_from_the_noise_floor(
    metrics: RunMetrics, generator: Generator
) -> None:
    evaluation = metrics.evaluate(generator, STABLE_16)
    assert evaluation.fakes.swd_mean > 2 * evaluation.reals.swd_mean


def test_a_generator_with_labels_is_measured_with_those_of_the_dataset(faces_16: Dataset) -> None:
    labelled = replace(CONFIG, network=replace(CONFIG.network, label_size=2))
    keras.utils.set_random_seed(1)
    metrics = RunMetrics(faces_16, labelled)
    assert metrics.evaluate(Generator(labelled.network), STABLE_8).fakes.swd_mean > 0
    metrics.close()


def test_closed_metrics_leave_no_file_open(watched: Any, generator: Generator) -> None:
    metrics = RunMetrics(watched, CONFIG)
    metrics.close()  # before anything was measured
    for phase in (STABLE_8, STABLE_16):
        metrics.evaluate(generator, phase)
    metrics.close()
    metrics.close()
    del metrics
    gc.collect()  # what is open here becomes a ResourceWarning, and so an error
