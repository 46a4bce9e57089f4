"""FID, KID, precision and recall beside their formulas, written out once more in the plainest way."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.evaluation import features
from progan_service.evaluation.features import compare, frechet_distance, kernel_distance, noted, precision_recall
from progan_service.evaluation.images import ImageSetError

Array = NDArray[np.float64]


def drawn(seed: int, count: int, size: int = 5) -> Array:
    """Features that depend on each other."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, size)) @ random.normal(size=(size, size)) + random.normal(size=size)


def plain_fid(a: Array, b: Array) -> float:
    """By the eigenvalues of the product of the covariances, which is not symmetric."""
    covariance = [sum(np.outer(x - s.mean(0), x - s.mean(0)) for x in s) / (len(s) - 1) for s in (a, b)]
    roots = np.sqrt(np.linalg.eigvals(covariance[0] @ covariance[1]).astype(complex)).real
    apart = sum((x - y) ** 2 for x, y in zip(a.mean(0), b.mean(0), strict=True))
    return float(apart + np.trace(covariance[0]) + np.trace(covariance[1]) - 2 * roots.sum())


def plain_kid(a: Array, b: Array) -> float:
    def kernel(x: Array, y: Array) -> float:
        return float((sum(x * y) / len(x) + 1) ** 3)

    def mean(pairs: list[float]) -> float:
        return sum(pairs) / len(pairs)

    within = [mean([kernel(s[i], s[j]) for i, j in product(range(len(s)), repeat=2) if i != j]) for s in (a, b)]
    return sum(within) - 2 * mean([kernel(x, y) for x in a for y in b])


def plain_coverage(by: Array, of: Array) -> float:
    radii = [sorted(float(np.linalg.norm(x - y)) for y in by)[3] for x in by]  # the nearest of all is itself
    covered = [any(np.linalg.norm(x - y) <= radius for y, radius in zip(by, radii, strict=True)) for x in of]
    return sum(covered) / len(covered)


def test_fid_is_that_of_the_formula() -> None:
    a, b = drawn(1, 40), drawn(2, 30)
    assert frechet_distance(a, b) == pytest.approx(plain_fid(a, b), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(plain_fid(a, b), rel=1e-9)


def test_fid_of_normal_distributions_is_known() -> None:
    a = np.array([[-1.0, 0], [1, 0], [0, -1], [0, 1]]) * np.sqrt(1.5)  # covariance 1, 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(a, a + np.array([3, 4])) == pytest.approx(25)
    assert frechet_distance(a, a * [3, 2]) == pytest.approx((3 - 1) ** 2 + (2 - 1) ** 2)


def test_fid_of_fewer_images_than_features_is_that_of_the_formula() -> None:
    a, b = drawn(1, 6, size=12), drawn(2, 7, size=12)
    assert frechet_distance(a, b) == pytest.approx(plain_fid(a, b), rel=1e-6)


def test_kid_is_that_of_the_formula() -> None:
    a, b = drawn(1, 12), drawn(2, 9)
    assert kernel_distance(a, b) == pytest.approx(plain_kid(a, b), rel=1e-12)


def test_kid_is_the_mean_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "KID_BLOCK", 4)
    a, b = drawn(1, 8), drawn(2, 6)
    blocks = (plain_kid(a[:4], b[:3]), plain_kid(a[4:], b[3:]))
    assert kernel_distance(a, b) == pytest.approx(sum(blocks) / 2, rel=1e-12)


def test_precision_and_recall_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_ROWS_AT_ONCE", 7)
    reals, fakes = drawn(1, 40, size=3), drawn(1, 30, size=3)[:, ::-1] * 1.5
    found = precision_recall(reals, fakes)
    assert found == (plain_coverage(reals, fakes), plain_coverage(fakes, reals))
    assert 0 < min(found) < max(found) < 1


def test_what_precision_and_recall_mean() -> None:
    reals = np.array([[float(x), 0] for x in range(10)])
    assert precision_recall(reals, reals) == (1.0, 1.0)
    assert precision_recall(reals, reals + np.array([0, 100])) == (0.0, 0.0)
    assert precision_recall(reals, reals[:4]) == (1.0, 0.7)  # the fourth reaches as far as 3 + 3


def test_a_collapsed_generator_has_no_recall() -> None:
    reals = np.rint(100 * drawn(1, 50))  # whole numbers: their distances are exact
    scores = compare(reals, reals[:1].repeat(50, axis=0))
    assert (scores.precision, scores.recall) == (1.0, 1 / 50)
    assert list(scores.columns()) == ["FID", "KIDx1e3", "precision", "recall"]
    assert scores.columns()["KIDx1e3"] == 1000 * scores.kid


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ImageSetError, match="Fakes: 3 images, 4 are needed for precision and recall"):
        compare(drawn(1, 4), drawn(1, 3))


def test_batches_pass_and_their_features_are_noted() -> None:
    batches = [np.full((count, 8, 8, 3), count, np.uint8) for count in (2, 3)]
    found: list[Array] = []
    passed = list(noted(batches, lambda images: images[:, 0, 0].astype(np.float64), found))
    assert [batch is same for batch, same in zip(batches, passed, strict=True)] == [True, True]
    assert np.concatenate(found).tolist() == [[2.0] * 3] * 2 + [[3.0] * 3] * 3
