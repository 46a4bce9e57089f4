"""FID, KID, precision and recall: two sets of images compared by the features that a network gives them.

All is computed in float64. The figures depend on the network and on the number of images: FID falls with it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progan_service.evaluation.images import ImageSetError

KID_BLOCK = 1024  # images of each set at most in one estimate of KID
NEIGHBOURS = 3

_ROWS_AT_ONCE = 512  # of distances to all images of the other set

Features = NDArray[np.float64]
"""Features [N, F], a row an image."""

Extract = Callable[[NDArray[np.uint8]], Features]
"""Gives images uint8 [N, R, R, C] their features."""


@dataclass(frozen=True)
class FeatureScores:
    """The figures of one set of images, measured against the reals."""

    fid: float  # lower is better
    kid: float  # lower is better; 0 on average for sets of one distribution
    precision: float  # the share of fakes that look like reals, 0..1
    recall: float  # the share of reals that the fakes could be, 0..1

    def columns(self) -> dict[str, float]:
        """Return every figure under its name in the literature."""
        return {"FID": self.fid, "KIDx1e3": 1000 * self.kid, "precision": self.precision, "recall": self.recall}


def compare(reals: Features, fakes: Features) -> FeatureScores:
    """Measure fakes [M, F] against reals [N, F]. Raises ImageSetError for fewer than four images in a set."""
    for name, features in (("Reals", reals), ("Fakes", fakes)):
        if len(features) <= NEIGHBOURS:
            raise ImageSetError(f"{name}: {len(features)} images, {NEIGHBOURS + 1} are needed for precision and recall")
    return FeatureScores(frechet_distance(reals, fakes), kernel_distance(reals, fakes), *precision_recall(reals, fakes))


def noted(
    batches: Iterable[NDArray[np.uint8]], extract: Extract, features: list[Features]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the batches as they are, and append the features of each to a list."""
    for images in batches:
        features.append(extract(images))
        yield images


def frechet_distance(a: Features, b: Features) -> float:
    """Return FID (Heusel et al. 2017): |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)), A and B the covariances.

    The eigenvalues of A B are those of the symmetric A^(1/2) B A^(1/2), so no general matrix root is needed.
    """
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    covariance_a, covariance_b = np.atleast_2d(covariance_a), np.atleast_2d(covariance_b)
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0)).sum()
    apart = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(apart + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared)


def kernel_distance(a: Features, b: Features) -> float:
    """Return KID (Binkowski et al. 2018): the unbiased squared MMD with the kernel (x y / F + 1)^3.

    Both sets are cut into equally many blocks of at most KID_BLOCK images, and the estimates of the blocks averaged.
    """
    blocks = -(-max(len(a), len(b)) // KID_BLOCK)
    blocks = min(blocks, len(a) // 2, len(b) // 2)
    pairs = zip(np.array_split(a, blocks), np.array_split(b, blocks), strict=True)
    return float(np.mean([_squared_mmd(x, y) for x, y in pairs]))


def _squared_mmd(a: Features, b: Features) -> float:
    def kernel(x: Features, y: Features) -> Features:
        cubes: Features = (x @ y.T / x.shape[1] + 1) ** 3
        return cubes

    def within(x: Features) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def precision_recall(reals: Features, fakes: Features) -> tuple[float, float]:
    """Return precision and recall (Kynkäänniemi et al. 2019).

    The reals cover what is no farther from one of them than its third nearest real. Precision is the share of fakes
    that they cover, recall the share of reals that the fakes cover.
    """
    return _covered(reals, fakes), _covered(fakes, reals)


def _covered(by: Features, features: Features) -> float:
    """Return the share of features within the spheres of others, each of which reaches its third nearest neighbour."""
    radii = _squared_radii(by)
    rows = (features[start : start + _ROWS_AT_ONCE] for start in range(0, len(features), _ROWS_AT_ONCE))
    found = sum(int((_squared_distances(some, by) <= radii).any(axis=1).sum()) for some in rows)
    return found / len(features)


def _squared_radii(features: Features) -> NDArray[np.float64]:
    """Return the squared distance [N] of each image to its third nearest neighbour."""
    radii = []
    for start in range(0, len(features), _ROWS_AT_ONCE):
        distances = _squared_distances(features[start : start + _ROWS_AT_ONCE], features)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf  # itself
        radii.append(np.partition(distances, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1])
    return np.concatenate(radii)


def _squared_distances(a: Features, b: Features) -> NDArray[np.float64]:
    """Return the squared distances [A, B], not below 0 by rounding."""
    distances: NDArray[np.float64] = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    distances[distances < 0] = 0
    return distances
