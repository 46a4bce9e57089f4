"""The images that an evaluation measures: reals in the order of a run, and the inputs of the fakes."""

from itertools import islice
from typing import Any

import numpy as np

from progan_service.data.dataset import Dataset
from progan_service.data.order import image_indices, mirrored
from progan_service.evaluation.measure import fake_inputs, measure_reals, real_batches
from progan_service.latents.seeds import latents_from_seeds, seed_range

# Reals


def test_reals_come_in_the_order_of_the_run(faces_16: Dataset) -> None:
    first, second = islice(real_batches(faces_16, 8, seed=5, mirror=False), 2)
    np.testing.assert_array_equal(first, faces_16.images(image_indices(5, 0, 64, 24), 8))
    np.testing.assert_array_equal(second, faces_16.images(image_indices(5, 64, 64, 24), 8))
    np.testing.assert_array_equal(next(real_batches(faces_16, 8, seed=5, mirror=False, start=64)), second)


def test_reals_are_mirrored_as_in_the_run(faces_16: Dataset) -> None:
    plain, turned = (next(real_batches(faces_16, 16, seed=5, mirror=mirror, start=64)) for mirror in (False, True))
    flip = mirrored(5, 64, 64)
    assert 20 < flip.sum() < 44
    np.testing.assert_array_equal(turned[flip], plain[flip][:, :, ::-1])
    np.testing.assert_array_equal(turned[~flip], plain[~flip])


def test_the_second_sample_starts_at_another_epoch(watched: Any) -> None:
    with measure_reals(watched, 8, image_count=24, seed=5, mirror=False) as reals:
        assert (reals.resolution, reals.image_count, reals.seed) == (8, 24, 5)
    samples = [indices[:24] for _, indices in watched.read]
    assert samples == [image_indices(5, start, 24, 24).tolist() for start in (0, 24)]
    assert sorted(samples[0]) == sorted(samples[1]) == list(range(24))
    assert samples[0] != samples[1]


def test_more_images_than_the_dataset_has_are_shown_again(watched: Any) -> None:
    with measure_reals(watched, 8, image_count=70, seed=5, mirror=False) as reals:
        assert reals.scores.swd_mean > 0
    assert [indices for _, indices in watched.read] == [
        image_indices(5, start, 64, 24).tolist() for start in (0, 64, 72, 136)
    ]


# Fakes


def test_a_seed_gives_every_fake_a_latent_of_its_own(faces_16: Dataset) -> None:
    latents, labels = fake_inputs(faces_16, 8, 0, count=5, seed=3)
    np.testing.assert_array_equal(latents, latents_from_seeds(seed_range(3 * 2**32, 5), 8))
    assert labels.shape == (5, 0)
    longer, _ = fake_inputs(faces_16, 8, 0, count=9, seed=3)
    np.testing.assert_array_equal(longer[:5], latents)
    other, _ = fake_inputs(faces_16, 8, 0, count=5, seed=4)
    assert not np.isin(other, latents).any()


def test_labels_of_fakes_are_as_frequent_as_in_the_dataset(faces_16: Dataset) -> None:
    assert faces_16.labels is not None
    _, labels = fake_inputs(faces_16, 8, 2, count=2400, seed=3)
    assert (labels.shape, set(map(tuple, labels.tolist()))) == ((2400, 2), {(0.0, 1.0), (1.0, 0.0)})
    np.testing.assert_allclose(labels.mean(axis=0), faces_16.labels.mean(axis=0), atol=0.05)
