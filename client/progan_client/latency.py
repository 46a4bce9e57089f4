"""How long many calls took, in memory that does not grow with their number. Pure."""

import math
from collections import Counter

PRECISION = 0.01  # relative error of a percentile, at most

_GROWTH = (1 + PRECISION) / (1 - PRECISION)
_LOG_GROWTH = math.log(_GROWTH)
_SHORTEST_S = 1e-9  # the logarithm needs something above zero


class Histogram:
    """Durations in seconds, counted in buckets that grow by 2 % each: DDSketch (Masson et al., VLDB 2019).

    Bucket i holds g^(i-1) < duration <= g^i with g = (1 + PRECISION) / (1 - PRECISION), and 2 g^i / (g + 1) stands
    for all that it holds. A nanosecond to a day takes 1,600 buckets. `count`, `mean_s`, `min_s` and `max_s` are exact.
    """

    def __init__(self) -> None:
        self.count = 0
        self.min_s = math.inf
        self.max_s = 0.0
        self._total_s = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one duration, 0 or more."""
        self.count += 1
        self._total_s += seconds
        self.min_s = min(self.min_s, seconds)
        self.max_s = max(self.max_s, seconds)
        self._buckets[math.ceil(math.log(max(seconds, _SHORTEST_S)) / _LOG_GROWTH)] += 1

    @property
    def mean_s(self) -> float:
        """The mean duration; NaN when there is none."""
        return self._total_s / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float:
        """The shortest duration that `percent` of all do not exceed, within PRECISION; NaN when there is none."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(round(self.count * percent / 100, 6)))
        if rank >= self.count:
            return self.max_s
        seen = 0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            if seen >= rank:
                break
        return min(max(2 * _GROWTH**index / (_GROWTH + 1), self.min_s), self.max_s)

    def buckets(self, merge: int = 1) -> list[tuple[float, float, int]]:
        """(above, up to, count) of each bucket with anything in it, rising, in seconds; `merge` neighbours as one."""
        merged: Counter[int] = Counter()
        for index, count in self._buckets.items():
            merged[(index - 1) // merge] += count
        return [(_GROWTH ** (i * merge), _GROWTH ** ((i + 1) * merge), merged[i]) for i in sorted(merged)]
