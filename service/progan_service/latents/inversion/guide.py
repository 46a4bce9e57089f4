"""What helps to find the latent of an image: an encoder, where to begin, and a metric, in which way to go.

Both are made of a bank: images of seeds, small, with their latents. Pure functions over arrays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Rows = NDArray[np.float64]

_RIDGE = 1e-3  # beside the variance of small images in 0..1
_HELD_OUT = 5  # every fifth row of the bank


@dataclass(frozen=True, eq=False)
class Guide:
    """What is known of a version's latent space. D are the values of a small image in 0..1, L those of a latent.

    mean     [D] of the small images
    matrix   [D, L]: (small image - mean) @ matrix is the estimate of its latent
    metric   [L, L]: how much images change along directions; its mean eigenvalue is 1
    cosine   between estimated and true latents of images that the encoder was not fitted to, on average
    """

    mean: Array
    matrix: Array
    metric: Array
    cosine: float

    def encoded(self, small: Array) -> Array:
        """Return the estimated latents [N, L] of small images [N, D], each of length sqrt(L)."""
        estimated = (small - self.mean).astype(np.float64) @ self.matrix
        length = np.maximum(np.linalg.norm(estimated, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return np.asarray(estimated * (np.sqrt(estimated.shape[1]) / length), np.float32)


def guide_of(small: Array, latents: Array, change: Rows | None = None) -> Guide:
    """Return the guide by a bank: small images [N, D] in 0..1 of latents [N, L].

    change   [L, L] as `change_of` measures it; None: as far as the bank shows it
    """
    held = np.arange(len(small)) % _HELD_OUT == _HELD_OUT - 1
    cosine = _cosine(_ridge(small[~held], latents[~held]), small[held], latents[held])
    mean, matrix = _ridge(small, latents)
    metric = _change_in(small, latents) if change is None else change
    scale = len(metric) / max(float(np.trace(metric)), float(np.finfo(np.float32).tiny))
    return Guide(mean, matrix, np.asarray(metric * scale, np.float32), cosine)


def change_of(differences: Array) -> Rows:
    """Return how much an image changes along directions, J J^T [L, L], by its changes J [L, pixels] along the axes."""
    product: Rows = (differences @ differences.T).astype(np.float64)
    return product


def _ridge(small: Array, latents: Array) -> tuple[Array, Array]:
    mean = small.mean(axis=0, dtype=np.float64)
    x = small - mean
    covariance = x.T @ x / len(x) + _RIDGE * np.eye(x.shape[1])
    matrix = np.linalg.solve(covariance, x.T @ latents / len(x))
    return mean.astype(np.float32), matrix.astype(np.float32)


def _cosine(encoder: tuple[Array, Array], small: Array, latents: Array) -> float:
    mean, matrix = encoder
    estimated = (small - mean) @ matrix
    lengths = np.linalg.norm(estimated, axis=1) * np.linalg.norm(latents, axis=1)
    return float(((estimated * latents).sum(axis=1) / np.maximum(lengths, 1e-30)).mean())


def _change_in(small: Array, latents: Array) -> Rows:
    covariance = latents.astype(np.float64).T @ (small - small.mean(axis=0)) / len(small)
    return np.asarray(covariance @ covariance.T)
