"""Measures a generator against a dataset: the reals, and the inputs of the fakes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.order import drawn
from progan_service.data.shown import images_shown_at, labels_of
from progan_service.evaluation.report import Reference
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.progress import Progress

BATCH = 64  # real images read at once


def real_batches(
    dataset: Dataset, resolution: int, *, seed: int, mirror: bool, start: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of real images [N, R, R, C] without end, in the order of a run with this seed."""
    while True:
        yield images_shown_at(dataset, resolution, seed=seed, start=start, count=BATCH, mirror=mirror)
        start += BATCH


def measure_reals(
    dataset: Dataset,
    resolution: int,
    *,
    image_count: int,
    seed: int,
    mirror: bool,
    progress: Progress = lambda stage, done, total: None,
) -> Reference:
    """Measure two samples of `image_count` real images. The second starts at a later epoch, in another order."""
    samples = (
        real_batches(dataset, resolution, seed=seed, mirror=mirror, start=start)
        for start in (0, -(-image_count // dataset.count) * dataset.count)
    )
    return Reference(*samples, image_count=image_count, seed=seed, progress=progress)


def distinct_reals(
    dataset: Dataset, resolution: int, *, first: int, count: int, seed: int, mirror: bool
) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of `count` different real images from position `first` of the first epoch on."""
    end = first + count
    for start in range(first, end, BATCH):
        yield images_shown_at(dataset, resolution, seed=seed, start=start, count=min(BATCH, end - start), mirror=mirror)


def fake_inputs(
    dataset: Dataset, latent_size: int, label_size: int, *, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return latents [N, L], and labels [N, K] drawn from those of the dataset; K = 0 without labels."""
    latents = latents_from_seeds(seed_range(seed << 32, count), latent_size)
    return latents, labels_of(dataset, drawn(seed, 0, count, dataset.count), label_size)
