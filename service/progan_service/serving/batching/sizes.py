"""How many rows a batch may hold: chosen from timings, and corrected from the batches of a server that serves.

A larger batch makes more images/s, up to a point, and a call that comes while it runs waits longer. The rule:

- Of the sizes that reach 95 % of the best images/s, the largest whose batch takes at most 50 ms, else the smallest.
- A size is not tried while a batch of the next smaller size takes more than 1 s.

Timings are noisy, and all of them change when something else runs on the machine. So only ratios count, of two batches
that ran one after the other. In doubt the larger size is used: a smaller size takes over when three of four of its
ratios are good enough, a larger one when half of them are. Each change of size asks for more ratios than the last one.

While calls wait, every eighth batch may be a trial of another size. Trials cost at most 2 % of the time. There are none
where batches overlap: the ends of two batches then do not tell how long each of them took, so sizes cannot be compared.

Pure: no clock, no thread, no TensorFlow.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from statistics import median, quantiles

LONG_BATCH_S = 1.0
_SHORT_BATCH_S = 0.05  # a batch that is so short makes nobody wait
_STILL_SHORT_S = 0.075  # for the size in use, which would change to and fro otherwise
_NEAR_BEST = 0.95  # of the best images/s
_FIRST_RATIOS, _MOST_RATIOS = 5, 20  # needed for the first change of size, and for the third and later ones
_BATCHES_PER_TRIAL = 8
_TRIAL_COST = 0.02  # of the time


class LargestBatch:
    """The largest batch size in use, `rows`, and when to try another one. The rules are at the top of this module.

    images_per_s   of one device, in batches of this size; 0 before the first one

    Threads: not synchronized, its owner holds a lock. Any thread may read `rows` and `images_per_s`.
    """

    def __init__(
        self, sizes: Sequence[int], rounds: Sequence[Mapping[int, float]] = (), *, may_try: bool = True
    ) -> None:
        """Choose one of `sizes`, which rise.

        rounds    seconds by size, of batches that ran one after the other; of the sizes that may be chosen
        may_try   correct the choice by trials
        """
        self._sizes = tuple(sizes)
        self._may_try = may_try
        self._needed = _FIRST_RATIOS
        self._batches = 0  # since the last trial
        self.images_per_s = 0.0
        self._debt_s = 0.0  # what trials have cost and the time since has not made up for
        self._use(max(rounds[0]) if rounds else self._sizes[-1])
        for seconds in rounds:
            self._measure(seconds[self.rows])
            for size in seconds.keys() - {self.rows}:
                self._compare(size, seconds[size])
        if len(rounds) > 1:
            self._decide(min(len(rounds), _FIRST_RATIOS))

    @property
    def tried(self) -> int:
        """Return the next larger size if a trial may take it, else `rows`."""
        larger = (size for size in self._sizes if size > self.rows and self._is_bearable(size))
        return next(larger, self.rows) if self._may_try else self.rows

    def next(self, waiting: int) -> int:
        """Return how many rows the next batch may hold, now that so many wait. It may be a trial of another size."""
        if waiting < self.rows:
            self._last_s = 0.0  # the device comes to rest: its last batch is no measure for later ones
        self._batches += 1
        if not self._may_try or not self._last_s or self._debt_s or self._batches < _BATCHES_PER_TRIAL:
            return self.rows
        self._batches = 0
        candidates = [size for size in self._ratios if size <= waiting and self._is_bearable(size)]
        return min(candidates, key=lambda size: (self._trials[size], -size), default=self.rows)

    def record(self, size: int, seconds: float) -> None:
        """Take how long a batch of `size`, padding included, took."""
        self._debt_s = max(0.0, self._debt_s - _TRIAL_COST * seconds)
        if size == self.rows:
            self._measure(seconds)
        elif self._may_try and self._last_s and size in self._ratios:
            self._compare(size, seconds)
            self._note_cost(size)
            self._decide(self._needed)

    def exclude(self, size: int) -> None:
        """Never use this size or a larger one again: it does not fit into memory. The smallest one stays."""
        self._sizes = tuple(each for each in self._sizes if each < size) or self._sizes[:1]
        self._use(min(self.rows, self._sizes[-1]))

    def _use(self, rows: int) -> None:
        self.rows = rows
        self._last_s = 0.0
        self._seconds: deque[float] = deque(maxlen=_MOST_RATIOS)
        self._trials: dict[int, float] = defaultdict(float)  # a trial that cost as much as n batches counts as n + 1
        self._ratios: dict[int, deque[float]] = {  # images/s of another size, divided by images/s of the size in use
            size: deque(maxlen=_MOST_RATIOS) for size in self._sizes if size != rows
        }

    def _is_bearable(self, size: int) -> bool:
        if size < self.rows or not self._seconds:
            return True
        return self._usual_s(max(each for each in self._sizes if each < size)) <= LONG_BATCH_S

    def _measure(self, seconds: float) -> None:
        self._last_s = seconds
        self._seconds.append(seconds)
        if usual_s := median(self._seconds):
            self.images_per_s = self.rows / usual_s

    def _compare(self, size: int, seconds: float) -> None:
        self._ratios[size].append((size / seconds) / (self.rows / self._last_s))

    def _usual_s(self, size: int, speed: float = 1.0) -> float:
        """Return how long a batch of `size` takes at `speed` times the images/s of the size in use."""
        return median(self._seconds) * size / self.rows / speed

    def _note_cost(self, size: int) -> None:
        """Count a trial and the time that it cost, by the median of its size: a stall is not its fault."""
        cost_s = max(0.0, 1 / median(self._ratios[size]) - 1) * self._usual_s(size)
        self._debt_s += cost_s
        self._trials[size] += 1 + cost_s / self._usual_s(self.rows)

    def _decide(self, needed: int) -> None:
        """Follow the rule, for the sizes that have the needed number of ratios."""
        speeds = self._speeds(needed)
        near_best = [size for size, speed in speeds.items() if speed >= _NEAR_BEST * max(speeds.values())]
        short = [size for size in near_best if self._is_short(size, speeds[size])]
        rows = max(short) if short else min(near_best)
        if rows != self.rows:
            self._needed = min(2 * self._needed, _MOST_RATIOS)
            self._use(rows)

    def _speeds(self, needed: int) -> dict[int, float]:
        """Return images/s as multiples of those of the size in use. In doubt those of smaller sizes are too low."""
        speeds = {self.rows: 1.0}
        for size, ratios in self._ratios.items():
            if len(ratios) >= needed and self._is_bearable(size):
                last = list(ratios)[-needed:]
                speeds[size] = median(last) if size > self.rows else quantiles(last, n=4, method="inclusive")[0]
        return speeds

    def _is_short(self, size: int, speed: float) -> bool:
        return self._usual_s(size, speed) <= (_STILL_SHORT_S if size == self.rows else _SHORT_BATCH_S)
