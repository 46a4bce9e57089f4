"""A histogram of durations whose memory does not grow with the number of calls. Pure."""

import math
from collections import Counter

PRECISION = 0.01  # maximum relative error of a percentile

_GROWTH = (1 + PRECISION) / (1 - PRECISION)
_LOG_GROWTH = math.log(_GROWTH)
_SHORTEST_S = 1e-9  # the logarithm needs a number above zero


class Histogram:
    """Counts of durations in buckets that grow by 2 % each: DDSketch (Masson et al., VLDB 2019).

    Bucket i counts g^(i-1) < duration <= g^i with g = (1 + PRECISION) / (1 - PRECISION); its value is 2 g^i / (g + 1).
    1,600 buckets cover a nanosecond to a day. `count`, `mean_s`, `min_s` and `max_s` are exact. Units are seconds.
    """

    def __init__(self) -> None:
        self.count = 0
        self.min_s = math.inf
        self.max_s = 0.0
        self._total_s = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one duration of 0 or more seconds."""
        self.count += 1
        self._total_s += seconds
        self.min_s = min(self.min_s, seconds)
        self.max_s = max(self.max_s, seconds)
        self._buckets[math.ceil(math.log(max(seconds, _SHORTEST_S)) / _LOG_GROWTH)] += 1

    @property
    def mean_s(self) -> float:
        """The mean duration; NaN without durations."""
        return self._total_s / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float:
        """Return the percentile (nearest rank) within PRECISION; NaN without durations."""
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
        """Return (lower bound, upper bound, count) of each bucket that is not empty, `merge` neighbours as one."""
        merged: Counter[int] = Counter()
        for index, count in self._buckets.items():
            merged[(index - 1) // merge] += count
        return [(_GROWTH ** (i * merge), _GROWTH ** ((i + 1) * merge), merged[i]) for i in sorted(merged)]
