"""The search for the latent of one image: where it begins, what it compares, and when it ends. Pure.

- With a usable encoder it begins at the encoder's estimate. Without one, or with labels, it begins at several places,
  and goes on from where it gets lowest.
- It compares coarse images first, so that it does not end in the nearest valley. Where it begins at one place, they are
  means of 8 x 8 squares, for a short while; without a usable encoder of 4 x 4 squares, of 16 x 16, ..., at last pixels.
- Labels that are not given are free at first. Then the class that fits best, or the attributes as found within 0..1,
  are held, and the latent is found for them. Where that leads nowhere, the next two classes are tried.

It is a function of the image, the version and the budget: nothing in it is random, and no clock is read.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from progan_service.latents.inversion.descent import Descent, Valued, Vector
from progan_service.latents.inversion.guide import Guide
from progan_service.latents.seeds import latents_from_seeds, seed_range

T = TypeVar("T")
Why = Literal["enough", "budget", "no_gain"]

COARSEST_SIDE = 4
START_SEED = 2**33  # of the other places to begin at
USABLE_COSINE = 0.1  # of an encoder; below, its estimate is no better than another latent

_DAMPING = 0.2  # beside the metric, whose mean eigenvalue is 1
_STARTS = 4
_TRIED = 4, 20  # evaluations of each start before half of them are given up, at least and at most
_SHORT_SHARE, _COARSE_SHARE = 1 / 20, 1 / 8  # of the budget, for a coarse stage with a usable encoder and without
_FREE_LABELS_SHARE = 1 / 3  # likewise, for labels that are free
_AT_RIGHT_ANGLES = 1e-4  # cosine of a latent and a gradient that is zero but for rounding
_CLASSES = 3  # that are tried, the strongest first, while nothing is gained with them
_GAIN_DB, _GAIN_EVALUATIONS = 0.1, 30  # a search that gains less in so many has ended

Rows = NDArray[np.float32]


class Points(NamedTuple):
    """Where loss and gradient are wanted: latents [M, L], labels [M, K], and how coarse the images are compared."""

    latents: Rows
    labels: Rows
    coarseness: int


class Values(NamedTuple):
    """Losses [M], and gradients [M, L + K] by latents and labels."""

    losses: Rows
    gradients: Rows


Stage = Generator[Points, Values, T]


@dataclass(frozen=True, eq=False)
class Space:
    """What a search has to know of a version.

    inverse_metric   [L, L]
    are_classes      whether labels are classes, of which an image has one; else attributes
    has_encoder      whether the encoder's estimate is a good place to begin at
    coarsest         how often the sides of images can be halved, to 4 x 4
    """

    latent_size: int
    label_size: int
    are_classes: bool
    has_encoder: bool
    coarsest: int
    inverse_metric: NDArray[np.float64]

    @classmethod
    def of(cls, guide: Guide, resolution: int, label_size: int = 0, *, are_classes: bool = True) -> Self:
        size = len(guide.metric)
        inverse = np.asarray(np.linalg.inv(guide.metric + _DAMPING * np.eye(size)), np.float64)
        coarsest = resolution.bit_length() - COARSEST_SIDE.bit_length()
        return cls(size, label_size, are_classes, guide.cosine >= USABLE_COSINE, coarsest, inverse)

    @property
    def starts(self) -> int:
        """At how many places a search begins."""
        return 1 if self.has_encoder and not self.label_size else _STARTS

    @property
    def coarse_stages(self) -> list[tuple[int, float]]:
        """How coarse the images are that are compared before pixels are, and for which share of the budget."""
        if not self.has_encoder:
            return [(coarseness, _COARSE_SHARE) for coarseness in range(self.coarsest, 0, -2)]
        return [(self.coarsest - 1, _SHORT_SHARE)] if self.starts == 1 and self.coarsest > 1 else []

    def conditioned(self, gradient: Vector) -> Vector:
        """Return a gradient [L] or [L + K] times the inverse metric. Along labels nothing is measured."""
        size = self.latent_size
        return np.concatenate([self.inverse_metric @ gradient[:size], gradient[size:] / (1.0 + _DAMPING)])

    def candidates(self, labels: Vector) -> list[Rows]:
        """Return the labels [K] that free ones may stand for: the strongest classes, or the attributes within 0..1."""
        if not self.are_classes:
            return [np.asarray(labels.clip(0.0, 1.0), np.float32)]
        strongest = np.argsort(-labels, kind="stable")[:_CLASSES]
        return [np.asarray(np.arange(len(labels)) == column, np.float32) for column in strongest]


@dataclass(frozen=True, eq=False)
class Best:
    """The best that a search has found: latent [L], labels [K], and the mean square by which its image differs.

    Where only the direction of a latent matters, its length is sqrt(L).
    """

    latent: Rows
    labels: Rows
    loss: float

    @property
    def psnr_db(self) -> float:
        return decibels(self.loss)


def decibels(loss: float) -> float:
    """Return the PSNR for a mean square of differences in 0..1; at most 120 dB."""
    return -10.0 * math.log10(max(loss, 1e-12))


class Search:
    """The search for one image. `points` are wanted next, `tell` takes their values; None at the end.

    evaluations   how many points have been valued
    best          the best of the last stage that has begun; None before the first values
    why           why it has ended: the image is near enough, the budget is used up, or nothing is gained any more
    """

    def __init__(self, space: Space, encoded: Rows, labels: Rows | None, *, budget: int, enough_db: float) -> None:
        """`encoded` is the encoder's estimate [L]; `labels` [K] are those of the image, None to find them.

        budget   the most evaluations, at least 1
        """
        self._space, self._budget, self._enough_db = space, budget, enough_db
        self._tried = min(max(budget // 16, _TRIED[0]), _TRIED[1])
        self.evaluations = 0
        self.best: Best | None = None
        self.why: Why | None = None
        self._only_direction: bool | None = None  # whether the length of a latent changes nothing
        self._run = self._stages(encoded, labels if space.label_size else np.zeros(0, np.float32))
        self.points: Points | None = next(self._run)

    def tell(self, values: Values) -> None:
        """Take the values of `points`."""
        self.evaluations += len(values.losses)
        try:
            self.points = self._run.send(values)
        except StopIteration as ended:
            self.points, self.why = None, ended.value

    def _stages(self, encoded: Rows, labels: Rows | None) -> Stage[Why]:
        space, size = self._space, self._space.latent_size
        places = self._starts(encoded, labels)
        for coarseness, share in space.coarse_stages:
            places, _ = yield from self._descend(places, labels, coarseness, share)
        if labels is not None:
            _, why = yield from self._descend(places, labels, 0, 1.0)
            return why
        (found,), _ = yield from self._descend(places, None, 0, _FREE_LABELS_SHARE)
        below = math.inf
        for candidate in space.candidates(found[size:]):
            _, why = yield from self._descend([found[:size]], candidate, 0, 1.0, below)
            if why != "no_gain":
                break
            below = self.best.loss if self.best else math.inf
        return why

    def _starts(self, encoded: Rows, labels: Rows | None) -> list[Vector]:
        """Return the places to begin at [L], or [L + K] where labels are free: none of them is preferred."""
        space = self._space
        seeds = seed_range(START_SEED, space.starts - 1)
        latents = np.concatenate([encoded[None], latents_from_seeds(seeds, space.latent_size)]).astype(np.float64)
        free = [] if labels is not None else [1.0 / space.label_size if space.are_classes else 0.5] * space.label_size
        return [np.concatenate([latent, free]) for latent in latents]

    def _descend(
        self, places: Sequence[Vector], labels: Rows | None, coarseness: int, share: float, below: float = math.inf
    ) -> Stage[tuple[list[Vector], Why]]:
        """Descend from places, as far as this share of the budget goes. Return where it is lowest, and why it ended.

        labels   None: the last K numbers of a place are labels, free ones
        below    what counts as found has a lower loss than this
        """
        runs = [Descent(place, self._space.conditioned) for place in places]
        limit = min(self._budget, self.evaluations + round(share * self._budget))
        rounds, gained_at, gained_db = 0, self.evaluations, -math.inf
        while moving := [run for run in runs if not run.stuck][: max(limit - self.evaluations, 0)]:
            values = yield self._points([run.point for run in moving], labels, coarseness)
            for run, loss, gradient in zip(moving, values.losses, values.gradients, strict=True):
                run.tell(float(loss), gradient[: len(run.point)].astype(np.float64))
            rounds += 1
            runs.sort(key=_loss)
            lowest = runs[0].best
            assert lowest is not None
            if lowest.loss < below:
                self._note(lowest, labels)
            reached_db = decibels(lowest.loss)
            if coarseness == 0 and labels is not None and reached_db >= self._enough_db:
                return [lowest.point], "enough"
            if rounds % self._tried == 0:
                runs = runs[: -(-len(runs) // 2)]
            if len(runs) > 1 or reached_db >= gained_db + _GAIN_DB:
                gained_at, gained_db = self.evaluations, reached_db
            if self.evaluations - gained_at >= _GAIN_EVALUATIONS:
                return [lowest.point], "no_gain"
        lowest = min(runs, key=_loss).best
        return [lowest.point if lowest else places[0]], "budget" if self.evaluations >= limit else "no_gain"

    def _points(self, places: Sequence[Vector], labels: Rows | None, coarseness: int) -> Points:
        rows, size = np.stack(places).astype(np.float32), self._space.latent_size
        if labels is None:
            return Points(rows[:, :size], rows[:, size:], coarseness)
        return Points(rows, np.repeat(labels[None], len(rows), axis=0), coarseness)

    def _note(self, lowest: Valued, labels: Rows | None) -> None:
        size = self._space.latent_size
        latent, gradient = lowest.point[:size], lowest.gradient[:size]
        length = float(np.linalg.norm(latent))
        if self._only_direction is None:
            along = abs(float(latent @ gradient))
            self._only_direction = along < _AT_RIGHT_ANGLES * length * float(np.linalg.norm(gradient))
        if self._only_direction:
            latent = latent * (math.sqrt(size) / length)
        found = self._space.candidates(lowest.point[size:])[0] if labels is None else labels
        self.best = Best(latent.astype(np.float32), found, lowest.loss)


def _loss(run: Descent) -> float:
    return run.best.loss if run.best else math.inf
