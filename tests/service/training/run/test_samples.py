"""Images of a generator at a point of growth."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.model.pixels import to_uint8
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.run.samples import cycled_labels, draw_samples, sample_labels
from progan_service.training.stage import Phase

LATENTS = latents_from_seeds(seed_range(0, 10), 8)


@pytest.fixture(scope="module")
def generator() -> Generator:
    keras.utils.set_random_seed(1)
    return Generator(NetworkConfig(resolution=8, label_size=3, fmap_base=32, fmap_max=8))


def drawn(generator: Generator, labels: NDArray[np.float32], phase: Phase) -> NDArray[np.uint8]:
    return np.concatenate(list(draw_samples(generator, LATENTS, labels, phase)))


def test_images_come_in_batches_of_the_phase(generator: Generator) -> None:
    batches = list(draw_samples(generator, LATENTS, cycled_labels(10, 3), Phase(8, 1.0, 4, 0.001)))
    assert [(batch.dtype, batch.shape) for batch in batches] == [
        (np.uint8, (4, 8, 8, 3)),
        (np.uint8, (4, 8, 8, 3)),
        (np.uint8, (2, 8, 8, 3)),
    ]


@pytest.mark.parametrize("phase", [Phase(4, 1.0, 16, 0.001), Phase(8, 1.0, 16, 0.001), Phase(8, 0.25, 16, 0.001)])
def test_images_are_those_of_the_generator_where_its_growth_has_come_to(generator: Generator, phase: Phase) -> None:
    labels = cycled_labels(10, 3)
    expected = generator(tf.constant(LATENTS), tf.constant(labels), resolution=phase.resolution, alpha=phase.alpha)
    np.testing.assert_array_equal(drawn(generator, labels, phase), to_uint8(expected))


def test_while_a_resolution_fades_in_its_detail_is_not_all_there(generator: Generator) -> None:
    labels = cycled_labels(10, 3)
    early, late = (drawn(generator, labels, Phase(8, alpha, 16, 0.001)) for alpha in (1e-6, 1.0))
    coarse = drawn(generator, labels, Phase(4, 1.0, 16, 0.001))
    np.testing.assert_array_equal(early, coarse.repeat(2, axis=1).repeat(2, axis=2))
    assert not np.array_equal(early, late)


def test_labels_are_seen(generator: Generator) -> None:
    phase = Phase(8, 1.0, 16, 0.001)
    first, second = (drawn(generator, np.eye(3, dtype=np.float32)[[label] * 10], phase) for label in (0, 1))
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_generator_without_labels_takes_none() -> None:
    plain = Generator(NetworkConfig(resolution=8, fmap_base=32, fmap_max=8))
    assert drawn(plain, cycled_labels(10, 0), Phase(8, 1.0, 16, 0.001)).shape == (10, 8, 8, 3)


def test_labels_go_through_all_classes_in_turn() -> None:
    assert cycled_labels(5, 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert (cycled_labels(5, 3).dtype, cycled_labels(5, 0).shape) == (np.float32, (5, 0))


def test_attributes_of_samples_go_together_as_in_the_dataset(faces: Dataset) -> None:
    assert faces.labels is not None
    config = RunConfig(
        DatasetConfig("faces", faces.count, label_kind="attributes"),
        NetworkConfig(resolution=8, label_size=2, fmap_base=32, fmap_max=8),
        TrainingConfig(seed=3),
    )
    both = np.stack([faces.labels[:, 0], faces.labels[:, 0]], axis=1)  # all or none, never one of two
    labels = sample_labels(config, replace(faces, labels=both), 20)
    assert (labels.shape, labels.dtype) == ((20, 2), np.float32)
    assert {tuple(row) for row in labels.tolist()} == {(0, 0), (1, 1)}
    classes = replace(config, dataset=replace(config.dataset, label_kind="classes"))
    assert sample_labels(classes, faces, 3).tolist() == [[1, 0], [0, 1], [1, 0]]
