"""The search for a latent, on a generator small enough to be differentiated by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.latents.inversion.guide import Guide
from progan_service.latents.inversion.search import Points, Search, Space, Values

Rows = NDArray[np.float32]

L, K, PIXELS = 6, 3, 64
RANDOM = np.random.default_rng(1)
BY_LATENT, BY_LABEL = RANDOM.standard_normal((L, PIXELS)) / 4, RANDOM.standard_normal((K, PIXELS)) / 2
GUIDE = Guide(np.zeros(PIXELS, np.float32), np.zeros((PIXELS, L), np.float32), np.eye(L, dtype=np.float32), 0.5)
PLAIN = Space.of(GUIDE, 8)
CLASSES = Space.of(GUIDE, 8, K)
ATTRIBUTES = Space.of(GUIDE, 8, K, are_classes=False)
TRUE, START = RANDOM.standard_normal((2, L)).astype(np.float32)
RED = np.array([0, 1, 0], np.float32)


def images(latents: Rows, labels: Rows) -> NDArray[np.float64]:
    """Like a ProGAN: without labels only the direction of a latent matters."""
    z = latents.astype(np.float64)
    if not labels.shape[1]:
        z = z * (L**0.5 / np.linalg.norm(z, axis=1, keepdims=True))
    return np.tanh(z @ BY_LATENT + labels @ BY_LABEL[: labels.shape[1]])


def valued(points: Points, target: NDArray[np.float64]) -> Values:
    """Return loss and gradient, the latter by differences."""
    given = np.concatenate([points.latents, points.labels], axis=1).astype(np.float64)

    def losses(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(((images(rows[:, :L], rows[:, L:]) - target) ** 2).mean(axis=1))

    steps = 1e-5 * np.eye(given.shape[1])
    gradient = np.stack([(losses(given + step) - losses(given - step)) / 2e-5 for step in steps], axis=1)
    return Values(losses(given).astype(np.float32), gradient.astype(np.float32))


def searched(
    space: Space, target: NDArray[np.float64], labels: Rows | None = None, *, budget: int = 300, enough_db: float = 50
) -> Search:
    search = Search(space, START, labels, budget=budget, enough_db=enough_db)
    while search.points:
        search.tell(valued(search.points, target))
    assert search.best is not None
    return search


def picture(labels: Rows | None = None) -> NDArray[np.float64]:
    return images(TRUE[None], np.zeros((1, 0), np.float32) if labels is None else labels[None])[0]


def test_the_latent_of_an_image_is_found() -> None:
    search = searched(PLAIN, picture())
    assert (search.why, search.best.psnr_db >= 50) == ("enough", True)  # type: ignore[union-attr]
    assert search.evaluations < 100
    assert search.best is not None
    found = search.best.latent
    assert found @ TRUE / np.linalg.norm(found) / np.linalg.norm(TRUE) > 0.999
    assert np.linalg.norm(found) == pytest.approx(L**0.5)  # only its direction matters
    assert found.dtype == np.float32


def test_it_ends_with_the_best_so_far_when_its_budget_does() -> None:
    for budget in (1, 7):
        search = searched(PLAIN, picture(), budget=budget)
        assert (search.why, search.evaluations) == ("budget", budget)
    assert searched(CLASSES, picture(RED), RED, budget=3).evaluations == 3
    assert searched(CLASSES, picture(RED), budget=1).evaluations == 1


def test_it_ends_when_nothing_is_gained() -> None:
    nowhere = np.where(np.arange(PIXELS) % 2, 5.0, -5.0)
    search = searched(PLAIN, nowhere)
    assert search.why == "no_gain"
    assert search.evaluations < 150


def test_the_same_image_gives_the_same_latent() -> None:
    one, other = searched(CLASSES, picture(RED)), searched(CLASSES, picture(RED))
    assert one.best is not None
    assert other.best is not None
    assert one.best.latent.tolist() == other.best.latent.tolist()
    assert one.evaluations == other.evaluations


def test_with_given_labels_it_begins_at_several_places() -> None:
    search = Search(CLASSES, START, RED, budget=300, enough_db=50)
    assert search.points is not None
    assert len(search.points.latents) == 4
    assert search.points.latents[0].tolist() == START.tolist()
    assert search.points.labels.tolist() == [[0, 1, 0]] * 4
    search = searched(CLASSES, picture(RED), RED)
    assert search.why == "enough"
    assert search.best is not None
    assert search.best.latent == pytest.approx(TRUE, abs=0.05)  # its length matters, too


def test_the_class_is_found_with_the_latent() -> None:
    search = searched(CLASSES, picture(RED))
    assert search.best is not None
    assert search.best.labels.tolist() == [0, 1, 0]
    assert search.best.psnr_db >= 50


def test_attributes_are_found_in_degrees() -> None:
    search = searched(ATTRIBUTES, picture(np.array([1, 0.5, 0], np.float32)))
    assert search.best is not None
    assert search.best.labels == pytest.approx([1, 0.5, 0], abs=0.1)
    assert search.best.psnr_db > 35


def test_from_the_estimate_of_an_encoder_coarse_images_are_compared_for_a_short_while() -> None:
    search = Search(Space.of(GUIDE, 128), START, None, budget=160, enough_db=50)
    seen: list[tuple[int, int]] = []
    while search.points:
        seen.append((search.points.coarseness, len(search.points.latents)))
        search.tell(valued(search.points, picture() + 1))
    assert seen[:9] == [(4, 1)] * 8 + [(0, 1)]  # 8 x 8 for a twentieth of the budget, then pixels
    assert {level for level, _ in seen[8:]} == {0}
    assert Search(Space.of(GUIDE, 8), START, None, budget=160, enough_db=50).points.coarseness == 0  # type: ignore[union-attr]


def test_without_a_usable_encoder_coarse_images_are_compared_first() -> None:
    space = replace(Space.of(GUIDE, 128), has_encoder=False)
    search = Search(space, START, None, budget=160, enough_db=50)
    seen: list[tuple[int, int]] = []
    while search.points:
        seen.append((search.points.coarseness, len(search.points.latents)))
        search.tell(valued(search.points, picture() + 1))
    assert list(dict.fromkeys(level for level, _ in seen)) == [5, 3, 1, 0]  # 4 x 4, 16 x 16, 64 x 64, pixels
    assert sum(count for level, count in seen if level == 5) == 20  # an eighth of the budget
    assert seen[0] == (5, 4)
    assert seen[-1] == (0, 1)


def test_the_strongest_classes_are_tried_first() -> None:
    tried = CLASSES.candidates(np.array([0.2, 0.1, 0.7]))
    assert [labels.tolist() for labels in tried] == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    (attributes,) = ATTRIBUTES.candidates(np.array([-0.2, 0.5, 1.7]))
    assert attributes.tolist() == [0, 0.5, 1]
