"""What the steps are fed with: functions of images shown and the seed, shared out among replicas, read ahead."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.order import image_indices
from progan_service.model.config import NetworkConfig
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.feed import Arrays, Feed, load_batch
from progan_service.training.schedule import GrowthSchedule
from progan_service.training.stage import Phase

# 4x4 in batches of 8 to image 16, 8x8 in batches of 16 from then on; two labels.
CONFIG = RunConfig(
    DatasetConfig("faces", 48),
    NetworkConfig(resolution=8, label_size=2, fmap_base=32, fmap_max=8),
    TrainingConfig(seed=3, stable_kimg=0.015, fade_kimg=0.06, batch_sizes={4: 8, 8: 16}, mirror=True),
)
STABLE_4 = Phase(4, 1.0, 8, 0.001)
STABLE_8 = Phase(8, 1.0, 8, 0.001)


def configured(**training: Any) -> RunConfig:
    return replace(CONFIG, training=replace(CONFIG.training, **training))


def whole_batch(dataset: Dataset, config: RunConfig, images_shown: int, phase: Phase) -> Arrays:
    return load_batch(dataset, config, images_shown, phase, replica=0, of=1)


def pictures(dataset: Dataset, config: RunConfig, images_shown: int, phase: Phase) -> NDArray[np.uint8]:
    return whole_batch(dataset, config, images_shown, phase)[0]


# Batches


@pytest.mark.parametrize("resolution", [4, 8])
def test_an_epoch_shows_every_image_once(faces: Dataset, resolution: int) -> None:
    phase = Phase(resolution, 1.0, 8, 0.001)
    batches = [pictures(faces, configured(mirror=False), start, phase) for start in range(0, 48, 8)]
    shown = sorted(image.tobytes() for image in np.concatenate(batches))
    assert shown == sorted(image.tobytes() for image in faces.images(np.arange(48), resolution))


def test_a_batch_depends_on_images_shown_alone(faces: Dataset) -> None:
    together = whole_batch(faces, CONFIG, 40, STABLE_8)
    second_half = whole_batch(faces, CONFIG, 44, Phase(8, 1.0, 4, 0.001))
    for found, expected in zip(second_half, together, strict=True):
        np.testing.assert_array_equal(found, expected[4:])


def test_another_seed_shows_another_order(faces: Dataset) -> None:
    one, other = (pictures(faces, configured(seed=seed), 0, STABLE_8) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_mirroring_turns_some_images_left_to_right(faces: Dataset) -> None:
    epoch = Phase(8, 1.0, 48, 0.001)
    plain, mirrored = (pictures(faces, configured(mirror=mirror), 0, epoch) for mirror in (False, True))
    turned = [np.array_equal(after, before[:, ::-1]) for before, after in zip(plain, mirrored, strict=True)]
    kept = [np.array_equal(after, before) for before, after in zip(plain, mirrored, strict=True)]
    assert all(a or b for a, b in zip(turned, kept, strict=True))
    assert 10 < sum(turned) < 38


def test_every_image_comes_with_its_label(faces: Dataset) -> None:
    assert faces.labels is not None
    images, labels, _ = whole_batch(faces, configured(mirror=False), 0, STABLE_8)
    of_picture = {
        image.tobytes(): label for image, label in zip(faces.images(np.arange(48), 8), faces.labels, strict=True)
    }
    np.testing.assert_array_equal(labels, [of_picture[image.tobytes()] for image in images])
    assert labels.dtype == np.float32


def test_the_labels_that_are_drawn_are_as_frequent_as_in_the_dataset(faces: Dataset) -> None:
    assert faces.labels is not None
    many = Phase(4, 1.0, 4800, 0.001)
    _, _, drawn = whole_batch(faces, CONFIG, 0, many)
    assert drawn.shape == (4800, 2)
    np.testing.assert_allclose(drawn.mean(axis=0), faces.labels.mean(axis=0), atol=0.03)


def test_the_labels_that_are_drawn_have_nothing_to_do_with_the_images(faces: Dataset) -> None:
    _, labels, drawn = whole_batch(faces, CONFIG, 0, Phase(4, 1.0, 48, 0.001))
    assert not np.array_equal(labels, drawn)


def test_without_labels_there_are_none(faces: Dataset) -> None:
    unlabelled = replace(CONFIG, network=replace(CONFIG.network, label_size=0))
    images, labels, drawn = whole_batch(faces, unlabelled, 0, STABLE_4)
    assert (images.shape, labels.shape, drawn.shape) == ((8, 4, 4, 3), (8, 0), (8, 0))


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_take_the_images_in_turns(faces: Dataset, replicas: int) -> None:
    together = whole_batch(faces, CONFIG, 40, STABLE_8)
    for replica in range(replicas):
        share = load_batch(faces, CONFIG, 40, STABLE_8, replica, replicas)
        for found, expected in zip(share, together, strict=True):
            np.testing.assert_array_equal(found, expected[replica::replicas])


# The feed


@dataclass(frozen=True, eq=False)
class WatchedDataset(Dataset):
    """Notes the first image of each batch that is read; reads no further than it is let."""

    read: list[int] = field(default_factory=list)
    allowed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1000))
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    damaged: bool = False

    def images(self, indices: NDArray[np.int64], resolution: int) -> NDArray[np.uint8]:
        assert self.allowed.acquire(timeout=300)
        if self.damaged and self.read:
            raise DatasetError("a damaged file")
        self.read.append(int(indices[0]))
        self.done.release()
        return super().images(indices, resolution)

    def wait(self, batches: int) -> None:
        """Until so many more were read."""
        for _ in range(batches):
            assert self.done.acquire(timeout=300)


def watched(dataset: Dataset, **values: Any) -> WatchedDataset:
    return WatchedDataset(**vars(dataset), **values)


@contextmanager
def feeding(dataset: Dataset) -> Iterator[Feed]:
    feed = Feed(dataset, CONFIG, tf.distribute.get_strategy())
    try:
        yield feed
    finally:
        feed.close()


def first_image(images_shown: int) -> int:
    """Number of the image at a position of the run."""
    return int(image_indices(CONFIG.training.seed, images_shown, 1, 48)[0])


def test_a_feed_gives_the_batches_of_the_schedule(faces: Dataset) -> None:
    schedule = GrowthSchedule(CONFIG.training, 8)
    with feeding(faces) as feed:
        for images_shown, side, count in ((0, 4, 8), (8, 4, 8), (16, 8, 16), (32, 8, 16)):
            batch = feed.take(images_shown)
            assert batch[0].shape == (count, side, side, 3)
            for found, expected in zip(
                batch, whole_batch(faces, CONFIG, images_shown, schedule.at(images_shown)), strict=True
            ):
                np.testing.assert_array_equal(found, expected)


def test_a_run_that_goes_on_is_fed_from_where_it_is(faces: Dataset) -> None:
    with feeding(faces) as feed:
        feed.take(0)
        np.testing.assert_array_equal(feed.take(80)[0], pictures(faces, CONFIG, 80, Phase(8, 1.0, 16, 0.001)))


def test_the_batch_of_any_phase_can_be_had(faces: Dataset) -> None:
    with feeding(faces) as feed:
        for found, expected in zip(feed.batch(0, STABLE_8), whole_batch(faces, CONFIG, 0, STABLE_8), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_next_batch_is_read_while_a_step_runs(faces: Dataset) -> None:
    dataset = watched(faces)
    with feeding(dataset) as feed:
        feed.take(0)
        dataset.wait(2)
    assert dataset.read == [first_image(0), first_image(8)]


def test_no_batch_is_read_twice(faces: Dataset) -> None:
    dataset = watched(faces)
    with feeding(dataset) as feed:
        for images_shown in (0, 8, 16):
            feed.take(images_shown)
        dataset.wait(4)
    assert dataset.read == [first_image(n) for n in (0, 8, 16, 32)]


def test_only_waiting_counts_as_waiting(faces: Dataset) -> None:
    dataset = watched(faces, allowed=threading.Semaphore(1))
    with feeding(dataset) as feed:
        feed.take(0)
        before = feed.waited_s
        disk = threading.Timer(0.3, dataset.allowed.release, [2])
        disk.start()
        feed.take(8)
        disk.join()
    assert 0.2 < feed.waited_s - before < 30


def test_what_cannot_be_read_fails_the_step_that_needs_it(faces: Dataset) -> None:
    with feeding(watched(faces, damaged=True)) as feed:
        assert feed.take(0)[0].shape == (8, 4, 4, 3)
        with pytest.raises(DatasetError, match="a damaged file"):
            feed.take(8)
