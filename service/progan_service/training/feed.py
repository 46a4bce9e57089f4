"""The batches of a run, read ahead while a step runs. They are functions of the images shown and the seed."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.order import drawn, image_indices
from progan_service.data.shown import images_shown_at, labels_of
from progan_service.training.config import RunConfig
from progan_service.training.schedule import GrowthSchedule
from progan_service.training.stage import Phase
from progan_service.training.step import Batch

Arrays = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]  # the arrays of a Batch


def load_batch(dataset: Dataset, config: RunConfig, images_shown: int, phase: Phase, replica: int, of: int) -> Arrays:
    """Return the share of one replica of the batch after `images_shown`: the images replica, replica + of, ...

    It is the reals uint8 [N, R, R, C], their labels float32 [N, K], and the labels of N images drawn at random.
    """
    seed, share, count = config.training.seed, slice(replica, None, of), phase.batch_size
    images = images_shown_at(
        dataset,
        phase.resolution,
        seed=seed,
        start=images_shown,
        count=count,
        mirror=config.training.mirror,
        share=share,
    )
    shown = image_indices(seed, images_shown, count, dataset.count)[share]
    others = drawn(seed, images_shown, count, dataset.count)[share]
    label_size = config.network.label_size
    return images, labels_of(dataset, shown, label_size), labels_of(dataset, others, label_size)


class Feed:
    """Reads the batches of a run, one ahead. `waited_s` is the time in seconds that steps have waited for input."""

    def __init__(self, dataset: Dataset, config: RunConfig, strategy: tf.distribute.Strategy) -> None:
        self._dataset, self._config, self._strategy = dataset, config, strategy
        self._schedule = GrowthSchedule(config.training, config.network.resolution)
        ids = strategy.experimental_distribute_values_from_function(lambda c: tf.constant(c.replica_id_in_sync_group))
        self._replicas = [int(replica) for replica in strategy.experimental_local_results(ids)]
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._ahead: tuple[int, Future[dict[int, Arrays]]] | None = None
        self.waited_s = 0.0

    def take(self, images_shown: int) -> Batch:
        """Return the batch of the step after `images_shown`, and start to read the next one."""
        started = time.monotonic()
        ahead = self._ahead if self._ahead and self._ahead[0] == images_shown else self._read(images_shown)
        arrays = ahead[1].result()
        self._ahead = self._read(images_shown + self._schedule.at(images_shown).batch_size)
        self.waited_s += time.monotonic() - started
        return self._distributed(arrays)

    def batch(self, images_shown: int, phase: Phase) -> Batch:
        """Return a batch of the given phase, which need not be that of the schedule."""
        return self._distributed(self._load(images_shown, phase))

    def _distributed(self, arrays: dict[int, Arrays]) -> Batch:
        batch: Batch = self._strategy.experimental_distribute_values_from_function(
            lambda context: tuple(map(tf.constant, arrays[context.replica_id_in_sync_group]))
        )
        return batch

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(cancel_futures=True)

    def _read(self, images_shown: int) -> tuple[int, "Future[dict[int, Arrays]]"]:
        return images_shown, self._reader.submit(self._load, images_shown, self._schedule.at(images_shown))

    def _load(self, images_shown: int, phase: Phase) -> dict[int, Arrays]:
        of = self._strategy.num_replicas_in_sync
        return {
            replica: load_batch(self._dataset, self._config, images_shown, phase, replica, of)
            for replica in self._replicas
        }
