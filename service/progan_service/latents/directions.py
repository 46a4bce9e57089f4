"""Directions in latent space, found from latents and what their images show. Pure functions over arrays."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

_RIDGE = 0.01  # beside the variance of a latent's numbers, which is 1
_FOLDS = 5  # one of them is held out


def fitted(latents: NDArray[np.float32], scores: Rows) -> Rows:
    """Return weights [S, L] by which scores [N, S] depend on the directions of latents [N, L]: a ridge regression.

    Scores count in their standard deviations from their mean. A row is the direction along which its score rises.
    """
    z, y = _on_the_sphere(latents), standardised(scores)
    covariance = z.T @ z / len(z) + _RIDGE * np.eye(z.shape[1])
    return np.asarray(np.linalg.solve(covariance, z.T @ y / len(z)).T)


def held_out_r(latents: NDArray[np.float32], scores: Rows) -> Rows:
    """Return the correlation [S] of scores with those that a fit to four fifths of the rows foretells for the rest."""
    held = np.arange(len(latents)) % _FOLDS == _FOLDS - 1
    foretold = _on_the_sphere(latents[held]) @ fitted(latents[~held], scores[~held]).T
    return np.asarray((standardised(foretold) * standardised(scores[held])).mean(axis=0))


def discovered(latents: NDArray[np.float32], images: NDArray[np.float32], count: int) -> Rows:
    """Return the unit directions [count, L] along which images [N, D] change most, the strongest first.

    They are the left singular vectors of the covariance of latents and images, each with its largest number above zero.
    """
    z = _on_the_sphere(latents)
    strongest = np.linalg.svd(z.T @ (images - images.mean(axis=0)), full_matrices=False)[0].T[:count]
    largest = np.take_along_axis(strongest, np.abs(strongest).argmax(axis=1)[:, None], axis=1)
    return np.asarray(strongest * np.sign(largest))


def standardised(scores: Rows) -> Rows:
    """Return scores [N, S] in their standard deviations from their mean; zero for those that are all the same."""
    deviations = scores.std(axis=0)
    return np.asarray((scores - scores.mean(axis=0)) / np.where(deviations > 0, deviations, 1.0))


def _on_the_sphere(latents: NDArray[np.float32]) -> Rows:
    z = latents.astype(np.float64)
    return np.asarray(z * (z.shape[1] ** 0.5 / np.linalg.norm(z, axis=1, keepdims=True)))
