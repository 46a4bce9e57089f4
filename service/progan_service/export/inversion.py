"""What a version needs so that the latents of images can be found: a signature with gradients, and a guide."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.evaluation.thumbnails import thumbnails
from progan_service.export.exportable import Exportable
from progan_service.latents.inversion.guide import Guide, change_of, guide_of
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.progress import Progress

FIRST_SEED = 2**32  # of the bank: nobody looks for the images of these
COARSEST = 4  # pixels a side

_GUIDE_S = 120.0  # what a guide may take to measure; where images take long it is coarser
_BANK = 1024, 4096  # images, at least and at most
_BANK_PER_NUMBER = 32  # images for each number of a latent are always enough
_MOST_JACOBIANS = 16
_STEP = 0.1  # along each axis of a latent
_BATCH, _BATCH_PIXELS = 16, 2**22

Array = NDArray[np.float32]


class _NoGradientError(Exception):
    """The images do not depend on the latents in a way that TensorFlow could differentiate."""


def loss_gradient(exportable: Exportable) -> Any:
    """Return a concrete function: the distance of images to targets, and its gradient. None where there is none.

    Inputs:
    latents      float32 [N, L]
    labels       float32 [N, K], only with labels
    targets      uint8 [N, R, R, C]
    coarseness   int32 [N]: 0 compares pixels, k the means of squares of 2^k pixels a side, of which 4 x 4 are the least
    Outputs, each row a function of its own inputs alone:
    loss             float32 [N]: mean square of the differences, in 0..1. A pixel beyond a target of 0 or 255 has none
    gradient         float32 [N, L]
    label_gradient   float32 [N, K], only with labels
    """
    side, channels = exportable.resolution, exportable.channels

    def graph(
        latents: tf.Tensor, targets: tf.Tensor, coarseness: tf.Tensor, labels: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        sources = [latents] if labels is None else [latents, labels]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            loss = _loss(exportable.images(latents, labels), targets, coarseness)
        gradient, *others = tape.gradient(loss, sources)
        if gradient is None:
            raise _NoGradientError
        by_label = [tf.zeros_like(labels) if other is None else other for other in others]
        return {"loss": loss, "gradient": gradient} | dict(zip(["label_gradient"], by_label, strict=False))

    inputs = {
        "latents": tf.TensorSpec([None, exportable.latent_size], tf.float32),
        "targets": tf.TensorSpec([None, side, side, channels], tf.uint8),
        "coarseness": tf.TensorSpec([None], tf.int32),
    }
    if exportable.label_size:
        inputs["labels"] = tf.TensorSpec([None, exportable.label_size], tf.float32)
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in inputs.items()}
    try:
        return tf.function(graph).get_concrete_function(**specs)
    except (_NoGradientError, LookupError):  # LookupError: an operation has no gradient
        return None


def _loss(images: tf.Tensor, targets: tf.Tensor, coarseness: tf.Tensor) -> tf.Tensor:
    """Return the loss [N] of images [N, R, R, C], nominally -1..1."""
    pixels, wanted = (images + 1.0) / 2.0, tf.cast(targets, tf.float32) / 255.0
    beyond = ((targets == 255) & (pixels >= 1.0)) | ((targets == 0) & (pixels <= 0.0))
    difference = tf.where(beyond, 0.0, pixels - wanted)
    losses = [_mean_square(difference)]
    while difference.shape[1] > COARSEST:
        difference = tf.nn.avg_pool2d(difference, 2, 2, "VALID")
        losses.append(_mean_square(difference))
    return tf.reduce_sum(tf.stack(losses, axis=1) * tf.one_hot(coarseness, len(losses)), axis=1)


def _mean_square(difference: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(difference), axis=[1, 2, 3])


def measured_guide(images: Any, exportable: Exportable, progress: Progress) -> tuple[Guide, tuple[int, int]]:
    """Return the guide of a generator, and the first seed and number of the images that it was made of.

    images   the signature for images in 0..1
    """
    bank, jacobians = _plan(images, exportable)
    rows = bank + jacobians * (exportable.latent_size + 1)
    latents, labels = _bank(exportable, bank)
    small, done = [], 0
    for batch in _drawn(images, exportable, latents, labels):
        small.append(thumbnails(batch))
        done += len(batch)
        progress("images for inversion", done, rows)
    change = np.zeros([exportable.latent_size] * 2)
    for latent, label in zip(latents[:jacobians], labels[:jacobians], strict=True):
        change += change_of(_jacobian(images, exportable, latent, label))
        done += exportable.latent_size + 1
        progress("images for inversion", done, rows)
    guide = guide_of(np.concatenate(small), latents, change if jacobians else None)
    return guide, (FIRST_SEED, bank)


def _plan(images: Any, exportable: Exportable) -> tuple[int, int]:
    """Return the size of the bank, and the number of Jacobians, that can be made in time."""
    fewest, most = _BANK
    batch = _batch(exportable)
    latents, labels = _bank(exportable, batch)
    list(_drawn(images, exportable, latents, labels))  # the first batch takes longer
    started = time.monotonic()
    list(_drawn(images, exportable, latents, labels))
    affordable = int(_GUIDE_S * batch / (time.monotonic() - started))
    bank = min(max(affordable // 2, fewest), most, exportable.latent_size * _BANK_PER_NUMBER)
    jacobians = (affordable - bank) // (exportable.latent_size + 1)
    return bank, min(max(jacobians, 0), _MOST_JACOBIANS)


def _bank(exportable: Exportable, count: int) -> tuple[Array, Array]:
    """Return latents [N, L] and labels [N, K] of the bank: classes take turns, attributes hold in all combinations."""
    rows = np.arange(count)[:, None]
    columns = np.arange(exportable.label_size)
    if exportable.label_kind == "classes":
        labels = rows % max(exportable.label_size, 1) == columns
    else:
        labels = rows >> np.minimum(columns, 62) & 1
    return latents_from_seeds(seed_range(FIRST_SEED, count), exportable.latent_size), labels.astype(np.float32)


def _drawn(images: Any, exportable: Exportable, latents: Array, labels: Array) -> Iterator[Array]:
    """Yield the images of latents in batches [N, R, R, C], in 0..1."""
    batch = _batch(exportable)
    for start in range(0, len(latents), batch):
        inputs = {"latents": tf.constant(latents[start : start + batch])}
        if exportable.label_size:
            inputs["labels"] = tf.constant(labels[start : start + batch])
        yield images(**inputs)["images"].numpy()


def _batch(exportable: Exportable) -> int:
    return max(1, min(_BATCH, _BATCH_PIXELS // exportable.resolution**2))


def _jacobian(images: Any, exportable: Exportable, latent: Array, label: Array) -> Array:
    """Return how much an image changes [L, pixels] along the axes of its latent [L]."""
    size = len(latent)
    latents = np.concatenate([latent[None], latent + _STEP * np.eye(size, dtype=np.float32)])
    labels = np.repeat(label[None], size + 1, axis=0)
    first, *others = (image.ravel() for batch in _drawn(images, exportable, latents, labels) for image in batch)
    return np.asarray((np.stack(others) - first) / np.float32(_STEP))
