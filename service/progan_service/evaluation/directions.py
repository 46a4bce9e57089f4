"""How well directions do what their names say: fitted to scores of images, and measured on edited images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progan_service.errors import ConfigError
from progan_service.evaluation.scorer import Scorer, scored
from progan_service.evaluation.scores import Scores, check_names
from progan_service.evaluation.thumbnails import thumbnails
from progan_service.latents.directions import discovered, fitted, held_out_r
from progan_service.latents.edits import moved_within
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.progress import Progress
from progan_service.store.directions import Direction
from progan_service.store.metadata import ModelMetadata

Draw = Callable[[NDArray[np.float32], NDArray[np.float32]], Iterator[NDArray[np.uint8]]]

AMOUNTS = (-3, -2, -1, 0, 1, 2, 3)
MEASURED_SEEDS = seed_range(3000, 10)

_TOLERANCE_SD = 0.1  # by which a score may fall from one step to the next and still count as rising


@dataclass(frozen=True)
class Pictures:
    """Images of seeds of a version, edited or not.

    draw   latents [N, L] and labels [N, K] -> batches of images uint8 [B, R, R, C]
    """

    metadata: ModelMetadata
    draw: Draw

    def latents(self, seeds: NDArray[np.uint64]) -> NDArray[np.float32]:
        return latents_from_seeds(seeds, self.metadata.latent_size)

    def groups(self, seeds: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the class of each seed: seeds take turns. All are 0 for a model without classes."""
        classes = self.metadata.label_count if self.metadata.label_kind == "classes" else 0
        return (seeds % np.uint64(max(classes, 1))).astype(np.int64)

    def images(
        self, seeds: NDArray[np.uint64], direction: NDArray[np.float64] | None = None, amount: float = 0
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield batches of the images of seeds, moved along a direction if one is given. No attribute holds."""
        latents = self.latents(seeds)
        if direction is not None:
            latents = moved_within(latents, direction, amount)
        labels = np.zeros((len(seeds), self.metadata.label_count), np.float32)
        if self.metadata.label_count and self.metadata.label_kind == "classes":
            labels[np.arange(len(seeds)), self.groups(seeds)] = 1.0
        return self.draw(latents, labels)

    def sheet(self, direction: NDArray[np.float64], seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Return the images [N, 7, R, R, C] of seeds moved from -3 to 3."""
        columns = [np.concatenate(list(self.images(seeds, direction, by))) for by in AMOUNTS]
        return np.stack(columns, axis=1)


def score_seeds(pictures: Pictures, seeds: NDArray[np.uint64], scorer: Scorer, progress: Progress) -> Scores:
    """Return what the scorer says of the images of seeds. Raises ConfigError for a scorer that does not fit."""
    parts: list[dict[str, NDArray[np.float64]]] = []
    done = 0
    for images in pictures.images(seeds):
        parts.append(scored(images, scorer))
        if not done:
            check_names(tuple(parts[0]))
        if parts[-1].keys() != parts[0].keys():
            several = " and then ".join(", ".join(part) for part in (parts[0], parts[-1]))
            raise ConfigError(f"the scorer returns {several}: must return scores of the same names for all images")
        done += len(images)
        progress("images scored", done, len(seeds))
    names = tuple(parts[0])
    return Scores(seeds, names, np.stack([np.concatenate([part[name] for part in parts]) for name in names], axis=1))


@dataclass(frozen=True, eq=False)
class Fit:
    """Directions that were fitted to scores, one for each name.

    vectors    unit vectors [S, L]
    r          [S] correlations with scores that the fit did not see
    monotone   [S] share of latents whose score rises with each step from -3 to 3; None where there was no scorer
    shifts     [S, S] by how many of its deviations each score (column) rises when each direction (row) goes -2 to 2
    """

    scores: Scores
    vectors: NDArray[np.float64]
    r: NDArray[np.float64]
    monotone: NDArray[np.float64] | None
    shifts: NDArray[np.float64]

    @property
    def directions(self) -> list[Direction]:
        return [
            Direction(
                name,
                tuple(float(value) for value in self.vectors[place].astype(np.float32)),
                "fitted",
                len(self.scores.seeds),
                r=round(float(self.r[place]), 4),
                monotone=None if self.monotone is None else round(float(self.monotone[place]), 4),
                shift_sd=round(float(self.shifts[place, place]) / 4, 4),
            )
            for place, name in enumerate(self.scores.names)
        ]


def fit(pictures: Pictures, scores: Scores, scorer: Scorer | None) -> Fit:
    """Fit directions to scores of seeds, and measure them: with a scorer on edited images, else by the regression."""
    latents, values = pictures.latents(scores.seeds), _within_groups(scores.values, pictures.groups(scores.seeds))
    weights, r = fitted(latents, values), held_out_r(latents, values)
    vectors = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    if scorer is None:
        return Fit(scores, vectors, r, None, 4.0 * vectors @ weights.T)
    monotone, shifts = _measured(pictures, scores, vectors, scorer)
    return Fit(scores, vectors, r, monotone, shifts)


def _measured(
    pictures: Pictures, scores: Scores, vectors: NDArray[np.float64], scorer: Scorer
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of ten latents whose scores rise [S], and the mean shifts of all scores [S, S]."""
    deviations = scores.values.std(axis=0)

    def moved(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores [7, 10, S] in deviations."""
        by_amount = []
        for amount in AMOUNTS:
            images = np.concatenate(list(pictures.images(MEASURED_SEEDS, vector, amount)))
            found = scored(images, scorer)
            by_amount.append(np.stack([found[name] for name in scores.names], axis=1) / deviations)
        return np.stack(by_amount)

    steps = [moved(vector) for vector in vectors]
    rising = [(np.diff(step[:, :, place], axis=0) > -_TOLERANCE_SD).all(axis=0) for place, step in enumerate(steps)]
    low, high = AMOUNTS.index(-2), AMOUNTS.index(2)
    return np.mean(rising, axis=1), np.stack([(step[high] - step[low]).mean(axis=0) for step in steps])


def discover(pictures: Pictures, samples: int, count: int, progress: Progress) -> list[Direction]:
    """Return the directions along which images change most: axis-1, the strongest, to axis-COUNT."""
    seeds = seed_range(0, samples)
    small: list[NDArray[np.float32]] = []
    done = 0
    for images in pictures.images(seeds):
        small.append(thumbnails(images))
        done += len(images)
        progress("images made", done, samples)
    shown = np.concatenate(small).astype(np.float64)
    residual = _within_groups(shown, pictures.groups(seeds)).astype(np.float32)
    return [
        Direction(f"axis-{number}", tuple(float(v) for v in vector.astype(np.float32)), "discovered", samples)
        for number, vector in enumerate(discovered(pictures.latents(seeds), residual, count), start=1)
    ]


def _within_groups(values: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return values [N, D] less the mean of their group: what the class of an image says is no matter of latents."""
    result = values.copy()
    for group in np.unique(groups):
        result[groups == group] -= values[groups == group].mean(axis=0)
    return result


def nearly_one(directions: Sequence[Direction], cosine: float) -> list[tuple[str, str, float]]:
    """Return the pairs of directions whose cosine is above this, or below its opposite."""
    arrays = [direction.array for direction in directions]
    return [
        (one.name, other.name, float(arrays[i] @ arrays[j]))
        for i, one in enumerate(directions)
        for j, other in enumerate(directions[:i])
        if abs(arrays[i] @ arrays[j]) > cosine
    ]
