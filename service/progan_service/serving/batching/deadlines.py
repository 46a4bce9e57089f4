"""Which deadlines can be met: the rows that are due, against the rows that the devices can compute by then. Pure.

The test is that of earliest deadline first: for each deadline, the rows that are due by then must fit into the time
until then [Baruah, Mok and Rosier 1990]. If they fit, earliest deadline first meets them all. Any other order may be
followed as long as they still fit after each batch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.batching.work import Priority, Work

Floats = NDArray[np.float64]

_ROUNDING_S = 1e-9


@dataclass(frozen=True)
class Forecast:
    """What the devices can do from now on.

    free_at      when each device has finished the batches that it runs; the first one gets the next batch
    sizes        batch sizes, rising
    seconds      how long a batch of each size keeps a device busy, not falling
    not_before   by size: the earliest end of a batch that begins now, where batches overlap (flights.py)
    """

    free_at: tuple[float, ...]
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    not_before: Mapping[int, float] = field(default_factory=dict)

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    def seconds_for(self, rows: float) -> float:
        """Return how long so many rows take in full batches, on all devices."""
        return float(np.ceil(rows / self.largest)) * self.seconds[-1] / len(self.free_at)

    def padded(self, rows: int) -> int:
        """Return the smallest size that holds `rows`, or else the largest."""
        return next((size for size in self.sizes if size >= rows), self.largest)

    def rows_by(self, times: Floats) -> Floats:
        """Return how many rows are done by each time, in full batches only."""
        done = np.zeros(len(times))
        earliest = self.not_before[self.largest] - self.seconds[-1] if self.not_before else min(self.free_at)
        for free_at in self.free_at:
            start = max(free_at, earliest)
            done += self.largest * np.floor(np.maximum(times - start + _ROUNDING_S, 0.0) / self.seconds[-1])
        return done

    def most_rows_by(self, times: Floats) -> Floats:
        """Return a bound of the rows that can be done by each time in batches of any size."""
        per_s = max(size / seconds for size, seconds in zip(self.sizes, self.seconds, strict=True))
        done = np.zeros(len(times))
        for start in self.free_at:
            left = times - start + _ROUNDING_S
            done += np.where(left >= self.seconds[0], left * per_s, 0.0)
        return done

    def after(self, size: int) -> "Forecast":
        """Return the forecast for the time when the next batch, of this size, has begun."""
        return replace(self, free_at=(self.end_of(size), *self.free_at[1:]))

    def end_of(self, size: int) -> float:
        """Return when the next batch ends if it is of this size."""
        end = self.free_at[0] + self.seconds[self.sizes.index(size)]
        return max(end, self.not_before[size]) if self.not_before else end

    def is_met_at_once(self, work: Work) -> bool:
        """Return whether the next batch can hold all rows of a work, and ends before its deadline."""
        return work.rows <= self.largest and _is_in_time(self.end_of(self.padded(work.rows)), work.deadline)

    def size_until(self, time: float, rows: int) -> int:
        """Return the size of the next batch, for up to `rows`, that ends by `time`; the largest if none does."""
        sizes = [size for size in self.sizes if size <= self.padded(rows) and _is_in_time(self.end_of(size), time)]
        return sizes[-1] if sizes else self.largest


@dataclass(frozen=True)
class Demand:
    """The rows that are due by each of some times, and that can be done by then.

    own    those of one caller
    bulk   those of bulk works
    """

    due: Floats
    own: Floats
    bulk: Floats
    done: Floats


class Deadlines:
    """Works with a deadline and rows that wait, earliest deadline first."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._table = np.zeros((4, 64))  # a column for each work: deadline, rows that wait, caller, 1 for bulk

    def __len__(self) -> int:
        return len(self._works)

    def put(self, work: Work) -> None:
        count = len(self._works)
        if count == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)
        place = self._place_after(work.deadline)
        self._table[:, place + 1 : count + 1] = self._table[:, place:count]
        self._table[:, place] = work.deadline, work.waiting, _code(work.caller), work.priority is Priority.BULK
        self._works.insert(place, work)

    def update(self, work: Work) -> None:
        """Note that fewer rows of a work wait, or none."""
        place = int(self._deadlines.searchsorted(work.deadline))
        while self._works[place] is not work:
            place += 1
        self._rows[place] = work.waiting
        if not work.waiting:
            count = len(self._works)
            self._table[:, place : count - 1] = self._table[:, place + 1 : count]
            del self._works[place]

    def passed(self, time: float) -> list[Work]:
        """Return the works whose deadline is at `time` or before."""
        return self._works[: self._place_after(time)] if self._works else []

    def first(self, rows: int) -> Iterator[tuple[Work, int]]:
        """Yield the works to which the first `rows` belong, and how many of them each has."""
        for work in self._works:
            if rows <= 0:
                return
            yield work, min(rows, work.waiting)
            rows -= work.waiting

    def met_at_once(self, waiting: int, forecast: Forecast) -> bool:
        """Return whether the next batch holds all rows that wait, and ends before all deadlines. It takes no array."""
        if not self._works:
            return True
        return waiting <= forecast.largest and _is_in_time(forecast.end_of(forecast.padded(waiting)), self._table[0, 0])

    def demand_with(self, work: Work, waiting: int, forecast: Forecast) -> Demand:
        """Return the demand by the deadline of new work and by all later deadlines. So many rows wait, with it."""
        place = self._place_after(work.deadline)
        times = np.concatenate([[work.deadline], self._deadlines[place:]])
        earliest = min(work.deadline, self._deadlines[0]) if self._works else work.deadline
        size = forecast.size_until(earliest, waiting)
        done = size * (times + _ROUNDING_S >= forecast.end_of(size)) + forecast.after(size).rows_by(times)

        def sums(rows: Floats, new: int) -> Floats:
            earlier, later = rows[:place].sum() + new, np.cumsum(rows[place:])
            return np.concatenate([[earlier], earlier + later])

        of_caller, of_bulk = self._rows * (self._table[2, : len(self)] == _code(work.caller)), self._rows * self._bulk
        new_bulk = work.waiting if work.priority is Priority.BULK else 0
        return Demand(sums(self._rows, work.waiting), sums(of_caller, work.waiting), sums(of_bulk, new_bulk), done)

    def pressing(self, waiting: int, forecast: Forecast) -> tuple[int, int]:
        """Return the size of the next batch, and how many of the rows due first it must hold.

        A batch is smaller than it could be if one of that size would end too late.
        """
        if self.met_at_once(waiting, forecast):
            return forecast.padded(waiting), 0
        for size in reversed([size for size in forecast.sizes if size <= forecast.padded(waiting)]):
            if _is_in_time(forecast.end_of(size), self._deadlines[0]):
                overdue = np.cumsum(self._rows) - forecast.after(size).rows_by(self._deadlines)
                if (rows := int(overdue.max(initial=0))) <= size:
                    return size, rows
        size = forecast.size_until(self._deadlines[0], waiting)
        return size, size

    def hopeless(self, waiting: int, forecast: Forecast) -> list[Work]:
        """Return works to drop so that the others can be in time. As few rows as possible are lost. [Moore 1968]"""
        dropped: list[Work] = []
        if self.met_at_once(waiting, forecast):
            return dropped
        rows, done = self._rows.copy(), forecast.most_rows_by(self._deadlines)
        while len(late := np.flatnonzero(np.cumsum(rows) > done)):
            place = int(late[0])
            victim = self._cheapest(rows[: place + 1], float(rows[: place + 1].sum() - done[place]))
            dropped.append(self._works[victim])
            rows[victim] = 0
        return dropped

    def _cheapest(self, rows: Floats, excess: float) -> int:
        """Return the place of the smallest work with `excess` rows, or else of one that is large and hardly begun."""

        def cost(place: int) -> tuple[bool, float, float]:
            enough, lost = bool(rows[place] >= excess), self._works[place].rows
            return not enough, lost if enough else lost / rows[place], -rows[place]

        return min((place for place in range(len(rows)) if rows[place]), key=cost)

    def _place_after(self, time: float) -> int:
        return int(self._deadlines.searchsorted(time, "right"))

    @property
    def _deadlines(self) -> Floats:
        return self._table[0, : len(self._works)]

    @property
    def _rows(self) -> Floats:
        return self._table[1, : len(self._works)]

    @property
    def _bulk(self) -> Floats:
        return self._table[3, : len(self._works)]


def _is_in_time(end: float, deadline: float) -> bool:
    return end <= deadline + _ROUNDING_S


def _code(caller: str) -> float:
    """Return a number for a name: two names with the same one would share a share."""
    return float(hash(caller) & (2**53 - 1))
