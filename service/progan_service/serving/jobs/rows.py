"""The rows of a job: one latent for each image, and its labels, made when they are needed.

Constructors take arrays and check the rules that hold for every protocol. They raise InvalidArgument with a plain word
(rows, columns, values, latents, seeds, count, labels, label_names), which a protocol's parser replaces by
its field.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.latents.walks import Pace, UniformPace, walk
from progan_service.serving.errors import FailedPrecondition, InvalidArgument
from progan_service.store.metadata import ModelMetadata

_SHOWN_NAMES = 20


class Rows(Protocol):
    """Latents in a fixed order. A stream may ask for very many, so they are made a few at a time."""

    @property
    def count(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Return how much memory they take before they are made."""
        ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the latents start ... stop - 1 [stop - start, L]."""
        ...

    def seeds(self, start: int, stop: int) -> list[int] | None:
        """Return the seeds of these latents, or None if they were not made from seeds."""
        ...


def of_rows(latents: NDArray[np.float32], latent_size: int) -> Rows:
    """Return rows that are the given latents [N, latent_size]. Raise InvalidArgument."""
    _require_some(len(latents), "rows")
    _check_matrix(latents, latent_size, "latent_size of the model")
    directed = np.any(latents, axis=1)
    if not directed.all():
        raise InvalidArgument("latents", f"row {np.argmin(directed)} is all zero; a latent needs a direction")
    return _Given(latents)


def of_seeds(seeds: NDArray[np.uint64], latent_size: int) -> Rows:
    """Return rows that are made from the given seeds [N]. Raise InvalidArgument."""
    _require_some(len(seeds), "seeds")
    return _Seeds(seeds, latent_size)


def of_range(first_seed: int, count: int, latent_size: int) -> Rows:
    """Return rows of the seeds first_seed ... first_seed + count - 1, modulo 2^64. Raise InvalidArgument."""
    _require_some(count, "count")
    return _SeedRange(first_seed, count, latent_size)


@dataclass(frozen=True)
class _Given:
    _latents: NDArray[np.float32]

    @property
    def count(self) -> int:
        return len(self._latents)

    @property
    def nbytes(self) -> int:
        return self._latents.nbytes

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._latents[start:stop]

    def seeds(self, start: int, stop: int) -> None:
        return None


@dataclass(frozen=True)
class _Seeds:
    _seeds: NDArray[np.uint64]
    _latent_size: int

    @property
    def count(self) -> int:
        return len(self._seeds)

    @property
    def nbytes(self) -> int:
        return self._seeds.nbytes

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return latents_from_seeds(self._seeds[start:stop], self._latent_size)

    def seeds(self, start: int, stop: int) -> list[int]:
        return [int(seed) for seed in self._seeds[start:stop]]


@dataclass(frozen=True)
class _SeedRange:
    _first_seed: int
    count: int
    _latent_size: int
    nbytes: int = 0

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return latents_from_seeds(self._range(start, stop), self._latent_size)

    def seeds(self, start: int, stop: int) -> list[int]:
        return [int(seed) for seed in self._range(start, stop)]

    def _range(self, start: int, stop: int) -> NDArray[np.uint64]:
        return seed_range((self._first_seed + start) % 2**64, stop - start)


@dataclass(frozen=True)
class Labels:
    """The labels of each image. Several rows of labels are interpolated linearly when frames lie between them."""

    _rows: NDArray[np.float32] | None
    _pace: Pace

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.float32], ...]:
        """Return a 1-tuple with labels [stop - start, K], or an empty one if the model takes no labels."""
        if self._rows is None:
            return ()
        if len(self._rows) == 1:
            return (np.repeat(self._rows, stop - start, axis=0),)
        return (walk(self._rows, self._pace.places(start, stop), "linear", loop=True),)

    def at(self, pace: Pace) -> Self:
        """Return the labels of frames at another pace."""
        return replace(self, _pace=pace)

    def text(self, index: int, names: Sequence[str]) -> str:
        """Return the labels of one image in words: "glasses, smile 0.5"; empty for a model without labels.

        names   of all labels, or none when they are unknown
        """
        return ", ".join(_worded(row, names) for (row,) in self.rows(index, index + 1))


def _worded(row: NDArray[np.float32], names: Sequence[str]) -> str:
    held = [
        (names[int(column)] if names else f"label {column}") + (f" {row[column]:g}" if row[column] != 1 else "")
        for column in np.flatnonzero(row)
    ]
    return _listed(held) or "none"


NO_LABELS = Labels(None, UniformPace(0))


def of_labels(
    labels: NDArray[np.float32] | None, metadata: ModelMetadata, count: int, frames_between: int = 0
) -> Labels:
    """Return labels for `count` images or key frames: one row for all, or `count` rows.

    For a model with attributes None means that none of them holds.
    Raise InvalidArgument, or FailedPrecondition if the model takes no labels.
    """
    if not metadata.label_count:
        if labels is not None:
            raise FailedPrecondition("labels were given, and this model has none")
        return NO_LABELS
    attributes = metadata.label_kind == "attributes"
    if labels is None and attributes:
        return Labels(np.zeros((1, metadata.label_count), np.float32), UniformPace(0))
    if labels is None or not len(labels):
        meaning = f": {_listed(metadata.label_names)}" if metadata.label_names else ""
        raise InvalidArgument("labels", f"is missing; the model needs rows of {metadata.label_count} floats{meaning}")
    _check_matrix(labels, metadata.label_count, "label_count of the model")
    if attributes:
        _check_attributes(labels)
    if len(labels) not in (1, count):
        raise InvalidArgument("labels", f"has {len(labels)} rows; give 1 for all images or {count}, one for each")
    return Labels(labels, UniformPace(frames_between))


def of_label_names(names: Sequence[str], metadata: ModelMetadata) -> NDArray[np.float32]:
    """Return the labels [1, K] of the named ones: one class, or the attributes that hold.

    Raise InvalidArgument, or FailedPrecondition if the model has no labels or does not know their names.
    """
    if not metadata.label_count:
        raise FailedPrecondition("label names were given, and this model has no labels")
    if not metadata.label_names:
        raise FailedPrecondition("label names were given, and the names of this model's labels are unknown")
    if metadata.label_kind == "classes" and len(names) > 1:
        raise InvalidArgument("label_names", f"has {len(names)} names; an image of this model has one class")
    labels = np.zeros((1, metadata.label_count), np.float32)
    for name in names[: metadata.label_count + 1]:
        column = metadata.label_columns.get(name)
        if column is None:
            known = _listed(metadata.label_names)
            raise InvalidArgument("label_names", f"{reprlib.repr(name)} must be one of {known}")
        if labels[0, column]:
            raise InvalidArgument("label_names", f"{reprlib.repr(name)} is given twice")
        labels[0, column] = 1.0
    return labels


def _listed(names: Sequence[str]) -> str:
    """Return up to 20 names of labels, and how many more there are."""
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def _check_attributes(labels: NDArray[np.float32]) -> None:
    outside = np.argwhere((labels < 0) | (labels > 1))
    if len(outside):
        row, column = outside[0]
        value = labels[row, column]
        raise InvalidArgument(
            "values", f"row {row}, column {column} is {value:g}; must lie between 0 (not) and 1 (holds)"
        )


def _require_some(count: int, argument: str) -> None:
    if count == 0:
        raise InvalidArgument(argument, "is empty; at least one image must be asked for")


def _check_matrix(rows: NDArray[np.float32], columns: int, meaning: str) -> None:
    if rows.shape[1] != columns:
        raise InvalidArgument("columns", f"is {rows.shape[1]}; must be {columns}, the {meaning}")
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise InvalidArgument("values", f"row {row}, column {column} is {rows[row, column]}; must be finite")
