"""Edits: latents moved along directions, on the sphere of their own length. Pure functions over arrays.

The strength of an edit is in standard deviations: of the projections of random latents of length R on any direction.
That is R / sqrt(L), the same for every direction.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

_FARTHEST = 0.95  # of the length of a latent: what is left for everything else would be too little
_ROUNDING = 1e-9
_NOTHING_LEFT = 1e-6  # likewise: the latent lies within its edits


class TooFarError(ValueError):
    """The edits ask for more than the length of a latent allows.

    row     the first latent that is too short
    share   of its length that they need
    """

    def __init__(self, row: int, share: float) -> None:
        super().__init__(row, share)
        self.row = row
        self.share = share

    def of(self, row: int) -> str:
        """Return the sentence; `row` is the number of the latent among all of them."""
        return f"need {self.share:.2f} of the length of latent {row}, and at most {_FARTHEST} is allowed"


@dataclass(frozen=True, eq=False)
class Moves:
    """Where latents shall go along several directions at once. All are solved together, so they have no order.

    directions   unit vectors [E, L], linearly independent
    amounts      [E] in standard deviations, or [N, E] for each latent its own
    to           [E] bool: to this amount, else by this amount
    """

    directions: Rows
    amounts: Rows
    to: NDArray[np.bool_]

    @property
    def nothing(self) -> bool:
        """Tell whether no latent moves."""
        return not (self.amounts.any() or self.to.any())

    def apply(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latents [N, L], moved. Each keeps its length. Raises TooFarError.

        With the directions as rows of D, G = D D^T and a latent z of length R: p = D z moved by the amounts times
        R / sqrt(L); inside = D^T G^-1 p; the rest of z, which has nothing of the directions, fills the length up to R.
        The result for a row does not depend on the other rows, to the bit.
        """
        if self.nothing:
            return latents
        z = latents.astype(np.float64)
        length = np.linalg.norm(z, axis=-1, keepdims=True)
        deviation = length / np.sqrt(z.shape[1])
        before = np.stack([(z * direction).sum(axis=-1) for direction in self.directions], axis=-1)
        after = np.where(self.to, 0.0, before) + self.amounts * deviation
        duals = np.asarray(np.linalg.solve(self.directions @ self.directions.T, self.directions), np.float64)
        inside, rest = _combined(after, duals), z - _combined(before, duals)
        room = np.linalg.norm(rest, axis=-1, keepdims=True) / length
        share = np.linalg.norm(inside, axis=-1, keepdims=True) / length
        share[room < _NOTHING_LEFT] = 1.0
        if (share > _FARTHEST).any():
            row = int(np.argmax(share > _FARTHEST))
            raise TooFarError(row, float(share[row, 0]))
        moved = inside + rest * (np.sqrt(1.0 - share**2) / room)
        return np.asarray(moved, np.float32)


def moved_within(latents: NDArray[np.float32], direction: Rows, amount: float) -> NDArray[np.float32]:
    """Return latents [N, L] moved along one direction by so many standard deviations, or as far as their length allows.

    Only short latents, of some 60 numbers and less, are ever stopped.
    """
    z = latents.astype(np.float64)
    root = np.sqrt(z.shape[1])
    before = (z * direction).sum(axis=-1) / (np.linalg.norm(z, axis=-1) / root)
    farthest = _FARTHEST * root * (1.0 - _ROUNDING)
    after = np.clip(before + amount, -farthest, farthest)
    return Moves(direction[None], after[:, None], np.array([True])).apply(latents) if amount else latents


def without(direction: Rows, held: Rows) -> tuple[Rows, float]:
    """Return the part of a unit vector [L] that changes none of the held ones [H, L], and how long it was.

    The part is a unit vector again. A length near 0 means that the direction is made of the held ones.
    """
    shares, *_ = np.linalg.lstsq(held.T, direction, rcond=None)
    part = direction - held.T @ shares
    length = float(np.linalg.norm(part))
    return part / (length or 1.0), length


def _combined(shares: Rows, vectors: Rows) -> Rows:
    """Return shares [N, E] @ vectors [E, L]; a product of matrices would round differently for other N."""
    total = np.zeros((len(shares), vectors.shape[1]))
    for share, vector in zip(shares.T, vectors, strict=True):
        total += share[:, None] * vector
    return total
