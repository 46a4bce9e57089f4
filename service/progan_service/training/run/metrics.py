"""SWD and MS-SSIM of a generator against the real images, during a run and after it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.order import drawn
from progan_service.data.shown import images_shown_at, labels_of
from progan_service.evaluation.report import Evaluation, Progress, Reference
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.networks import Generator
from progan_service.training.config import RunConfig
from progan_service.training.run.samples import draw_samples
from progan_service.training.schedule import Phase

BATCH = 64  # real images read at once


def real_batches(
    dataset: Dataset, resolution: int, *, seed: int, mirror: bool, start: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Batches of real images [N, R, R, C] without end, in the order of a run with this seed."""
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
    """The real side of an evaluation: two looks at `image_count` real images, other patches and another order each."""
    looks = (
        real_batches(dataset, resolution, seed=seed, mirror=mirror, start=start)
        for start in (0, -(-image_count // dataset.count) * dataset.count)
    )
    return Reference(*looks, image_count=image_count, seed=seed, progress=progress)


def fake_inputs(
    dataset: Dataset, latent_size: int, label_size: int, *, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Latents [N, L], and labels [N, K] drawn from those of the dataset; K = 0 without labels."""
    latents = latents_from_seeds(seed_range(seed << 32, count), latent_size)
    return latents, labels_of(dataset, drawn(seed, 0, count, dataset.count), label_size)


class RunMetrics:
    """Evaluates the averaged generator of a run at every tick; the reals are measured once a resolution."""

    def __init__(self, dataset: Dataset, config: RunConfig) -> None:
        self._dataset, self._config = dataset, config
        self._reference: Reference | None = None

    def evaluate(self, generator: Generator, phase: Phase) -> Evaluation:
        """With `metric_images` images of each kind, the same latents at every tick."""
        network, training = self._config.network, self._config.training
        if self._reference is None or self._reference.resolution != phase.resolution:
            self.close()
            self._reference = measure_reals(
                self._dataset,
                phase.resolution,
                image_count=training.metric_images,
                seed=training.seed,
                mirror=training.mirror,
            )
        inputs = fake_inputs(
            self._dataset,
            network.latent_size,
            network.label_size,
            count=training.metric_images,
            seed=training.seed,
        )
        return self._reference.evaluate(draw_samples(generator, *inputs, phase))

    def close(self) -> None:
        if self._reference is not None:
            self._reference.close()
            self._reference = None
