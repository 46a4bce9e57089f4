"""Images of a generator during training, for grids and metrics."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.model.networks import Generator
from progan_service.model.pixels import to_uint8
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


def cycled_labels(count: int, label_size: int) -> NDArray[np.float32]:
    """Return one-hot labels [count, K] of the classes 0, 1, ... in turn; K = 0 gives [count, 0]."""
    classes = np.eye(label_size, dtype=np.float32)
    return classes[np.arange(count) % label_size] if label_size else np.zeros((count, 0), np.float32)
