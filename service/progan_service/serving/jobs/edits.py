"""Edits of a job: checked by the directions of its version, and applied to its rows.

They raise InvalidArgument with a plain word (direction, offset, set, amount, hold, edits), which a protocol's parser
replaces by its field.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from progan_service.latents.edits import Moves, TooFarError, without
from progan_service.serving.errors import FailedPrecondition, InvalidArgument
from progan_service.serving.jobs.rows import Rows
from progan_service.store.directions import Direction

MAX_EDITS = 16
MAX_HELD = 16
MAX_AMOUNT = 4.0

_LEAST_LEFT = 0.5  # of a direction when others are held: less is another direction, not this one
_LEAST_APART = 0.1  # of a direction beside the other edits of a request


@dataclass(frozen=True, eq=False)
class Edit:
    """A checked edit.

    vector   the direction less its projection on the held ones; unit vector [L]
    amount   in standard deviations
    to       whether latents move to the amount, else by it
    """

    name: str
    vector: NDArray[np.float64]
    amount: float
    to: bool
    hold: tuple[str, ...]

    def __str__(self) -> str:
        hold = f" hold {' '.join(self.hold)}" if self.hold else ""
        return f"{self.name} {f'={self.amount:.9g}' if self.to else f'{self.amount:+.9g}'}{hold}"


def of_edit(
    name: str, *, offset: float | None, to: float | None, hold: Sequence[str], known: Mapping[str, Direction]
) -> Edit:
    """Return an edit along the direction of this name. Raise InvalidArgument, or FailedPrecondition if none is known.

    offset, to   one of them is given: move by this amount, or to this one
    """
    direction = _known(name, "direction", known)
    amount = offset if to is None else to
    if amount is None:
        raise InvalidArgument("amount", f"of {name} is missing; give an offset, or a value to set")
    if not abs(amount) <= MAX_AMOUNT:
        word = "offset" if to is None else "set"
        raise InvalidArgument(word, f"of {name} is {amount:g}; must be {-MAX_AMOUNT:g} to {MAX_AMOUNT:g}")
    held = sorted(set(hold))
    if len(held) > MAX_HELD:
        raise InvalidArgument("hold", f"has {len(held)} names; at most {MAX_HELD} are allowed")
    if name in held:
        raise InvalidArgument("hold", f"is {name!r}, the direction that moves; hold others")
    vector = _holding(direction, [_known(other, "hold", known) for other in held])
    return Edit(name, vector, amount, to is not None, tuple(held))


def _known(name: str, word: str, known: Mapping[str, Direction]) -> Direction:
    if not known:
        raise FailedPrecondition(
            "edits were given, and this version of the model has no directions; `progan directions` makes them"
        )
    if name not in known:
        raise InvalidArgument(word, f"is {reprlib.repr(name)}; this version has: {', '.join(known)}")
    return known[name]


def _holding(direction: Direction, held: Sequence[Direction]) -> NDArray[np.float64]:
    """Return the direction without its projection on the held ones. Raise InvalidArgument if too little is left."""
    if not held:
        return direction.array
    vector, left = without(direction.array, np.stack([other.array for other in held]))
    if left < _LEAST_LEFT:
        raise InvalidArgument(
            "hold",
            f"leaves {left:.2f} of {direction.name}, and {_LEAST_LEFT} must be left: {_nearest(direction, held)}",
        )
    return vector


def _nearest(direction: Direction, others: Sequence[Direction]) -> str:
    """Return which of the others is nearest to a direction, as a sentence."""
    cosines = {other.name: float(direction.array @ other.array) for other in others}
    name = max(cosines, key=lambda name: abs(cosines[name]))
    return f"{direction.name} and {name} are nearly one direction (cosine {cosines[name]:.2f})"


@dataclass(frozen=True, eq=False)
class Edits:
    """All edits of a job, sorted by name, and how they move latents."""

    edits: tuple[Edit, ...]
    moves: Moves

    def __str__(self) -> str:
        return ", ".join(map(str, self.edits))


def of_edits(edits: Sequence[Edit]) -> Edits | None:
    """Return edits as one, None for no edits. Raise InvalidArgument for edits that contradict each other."""
    if not edits:
        return None
    edits = sorted(edits, key=lambda edit: edit.name)
    for one, next_one in pairwise(edits):
        if one.name == next_one.name:
            raise InvalidArgument("edits", f"move {one.name} twice; give one edit for a direction")
    vectors = np.stack([edit.vector for edit in edits])
    for place, edit in enumerate(edits[1:], start=1):
        _, left = without(edit.vector, vectors[:place])
        if left < _LEAST_APART:
            before = ", ".join(other.name for other in edits[:place])
            raise InvalidArgument("edits", f"of {before} and {edit.name} move nearly one direction; leave one out")
    amounts, to = np.array([edit.amount for edit in edits]), np.array([edit.to for edit in edits])
    return Edits(tuple(edits), Moves(vectors, amounts, to))


def edited(rows: Rows, edits: Edits | None) -> Rows:
    """Return rows that are edited when they are made. Making them raises InvalidArgument if edits go too far."""
    return _Edited(rows, edits) if edits else rows


@dataclass(frozen=True)
class _Edited:
    _rows: Rows
    _edits: Edits

    @property
    def count(self) -> int:
        return self._rows.count

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        latents = self._rows.rows(start, stop)
        try:
            return self._edits.moves.apply(latents)
        except TooFarError as error:
            raise InvalidArgument("edits", f"{error.of(start + error.row)}; give smaller amounts, or fewer") from error

    def seeds(self, start: int, stop: int) -> list[int] | None:
        return self._rows.seeds(start, stop)
