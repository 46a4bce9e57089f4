"""Images of a generator during training, for grids and metrics."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.order import drawn
from progan_service.data.shown import labels_of
from progan_service.model.networks import Generator
from progan_service.model.pixels import to_uint8
from progan_service.training.config import RunConfig
from progan_service.training.stage import Phase


def draw_samples(
    generator: Generator,
    latents: NDArray[np.float32],
    labels: NDArray[np.float32],
    phase: Phase,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of latents [N, L] and labels [N, K] (K = 0 for none) in batches uint8 [B, R, R, C]."""
    alpha = tf.constant(phase.alpha) if phase.fading else None
    for start in range(0, len(latents), phase.batch_size):
        inputs = (tf.constant(values[start : start + phase.batch_size]) for values in (latents, labels))
        yield to_uint8(generator(*inputs, resolution=phase.resolution, alpha=alpha)).numpy()


def sample_labels(config: RunConfig, dataset: Dataset, count: int) -> NDArray[np.float32]:
    """Return labels [count, K] for samples: the classes in turn, or the attributes of random images of the dataset."""
    if config.dataset.label_kind == "attributes":
        images = drawn(config.training.seed, 0, count, dataset.count)
        return labels_of(dataset, images, config.network.label_size)
    return cycled_labels(count, config.network.label_size)


def cycled_labels(count: int, label_size: int) -> NDArray[np.float32]:
    """Return one-hot labels [count, K] of the classes 0, 1, ... in turn; K = 0 gives [count, 0]."""
    classes = np.eye(label_size, dtype=np.float32)
    return classes[np.arange(count) % label_size] if label_size else np.zeros((count, 0), np.float32)
