"""L-BFGS with a metric: the way down from one start. Pure: who walks it computes losses and gradients elsewhere.

[Nocedal and Wright 2006, algorithms 7.4 and 7.5; the step by bisection and doubling to the weak Wolfe conditions,
Lewis and Overton 2013, algorithm 2.6]
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Conditioned = Callable[[Vector], Vector]

_HISTORY = 20
_FIRST_LENGTH = 1.0  # of the first move, at most
_DECREASE, _CURVATURE = 1e-4, 0.9
_TRIALS = 12  # of step lengths, until a direction counts as exhausted


class Valued(NamedTuple):
    """A point with its loss and gradient."""

    point: Vector
    loss: float
    gradient: Vector


class Descent:
    """A descent from one start: `point` is where loss and gradient are wanted next.

    best    the point with the lowest loss so far; None before the first
    stuck   whether it cannot come lower: no direction leads down by more than rounding
    """

    def __init__(self, start: Vector, conditioned: Conditioned) -> None:
        """`conditioned` multiplies a gradient by the inverse of the second derivatives, roughly and up to a factor."""
        self._moves = _moves(start, conditioned)
        self.point = next(self._moves)
        self.best: Valued | None = None
        self.stuck = False

    def tell(self, loss: float, gradient: Vector) -> None:
        """Take loss and gradient at `point`, and move on."""
        valued = Valued(self.point, loss if np.isfinite(loss) else np.inf, gradient)
        if self.best is None or loss < self.best.loss:
            self.best = valued
        try:
            self.point = self._moves.send(valued)
        except StopIteration:
            self.stuck = True


Moves = Generator[Vector, Valued, None]


def _moves(start: Vector, conditioned: Conditioned) -> Moves:
    """Yield points, and take them back with their values."""
    here = yield start
    pairs: deque[tuple[Vector, Vector]] = deque(maxlen=_HISTORY)
    while True:
        direction = _direction(here.gradient, pairs, conditioned)
        there = yield from _step(here, direction, 1.0 if pairs else _first_length(direction))
        if there is None:
            if not pairs:
                return
            pairs.clear()
            continue
        moved, turned = there.point - here.point, there.gradient - here.gradient
        if moved @ turned > 0:
            pairs.append((moved, turned))
        here = there


def _first_length(direction: Vector) -> float:
    return min(1.0, _FIRST_LENGTH / max(float(np.linalg.norm(direction)), 1e-30)) if direction.any() else 0.0


def _step(here: Valued, direction: Vector, length: float) -> Generator[Vector, Valued, Valued | None]:
    """Return a point along a direction that is lower and less steep, or at least lower; None if there is none."""
    slope, low, high = float(here.gradient @ direction), 0.0, np.inf
    lower: Valued | None = None
    for _ in range(_TRIALS if slope < 0 else 0):
        there = yield here.point + length * direction
        if there.loss > here.loss + _DECREASE * length * slope:
            high = length
        else:
            if lower is None or there.loss < lower.loss:
                lower = there
            if float(there.gradient @ direction) >= _CURVATURE * slope:
                return there
            low = length
        length = 2.0 * low if high == np.inf else (low + high) / 2.0
    return lower


def _direction(gradient: Vector, pairs: deque[tuple[Vector, Vector]], conditioned: Conditioned) -> Vector:
    """Return the direction down: minus the approximate inverse of the second derivatives times the gradient."""
    q, shares = gradient.copy(), []
    for moved, turned in reversed(pairs):
        shares.append(float(moved @ q) / float(moved @ turned))
        q -= shares[-1] * turned
    q = conditioned(q)
    if pairs:
        moved, turned = pairs[-1]
        q *= float(moved @ turned) / float(turned @ conditioned(turned))
    for (moved, turned), share in zip(pairs, reversed(shares), strict=True):
        q += (share - float(turned @ q) / float(moved @ turned)) * moved
    return -q
