"""Estimates of how long a batch or a file takes."""

import bisect
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.work import Work
from progan_service.serving.watching.calls import ran_out_of_time

MIN_RETRY_S = 0.01

_KEPT = 5  # measurements of each size
_STALE_S = 1.0


class Pace:
    """How long a batch takes, by its padded size. The last five measurements of a size count.

    Two of five may be far off, as when the machine was busy with something else for a moment. A lasting change is
    believed after three batches.

    Only a thread that holds the owner's lock records. Any thread may read.
    """

    def __init__(self) -> None:
        self._measured: dict[int, deque[float]] = {}
        self._measured_at = float("-inf")

    def record(self, size: int, seconds: float, now: float) -> None:
        """Note that a batch of `size` rows, padding included, took so long and ended now."""
        self._measured_at = now
        self._measured.setdefault(size, deque(maxlen=_KEPT)).append(seconds)

    def seconds(self, size: int) -> float:
        """Return the median time of a batch of this size; 0 before the first batch of any size."""
        return self._estimate(size, 0.5)

    def seconds_at_worst(self, size: int) -> float:
        """Return the time that four of the last five batches of this size kept; 0 before the first of any size."""
        return self._estimate(size, 0.75)

    def forecast(
        self, now: float, sizes: Sequence[int], running: Sequence[tuple[int, float] | None], *, at_worst: bool
    ) -> Forecast | None:
        """Return what the devices can do from `now` on.

        None: unknown, for no batch has been run, or none for a second. A call that comes then is let in, to measure.

        sizes      of batches, rising
        running    for each device the size of the batch that it runs and when that began; None for an idle one
        at_worst   estimate by the time that most batches kept, else by the usual one
        """
        seconds = self.seconds_at_worst if at_worst else self.seconds
        if not self._measured or (not any(running) and now - self._measured_at > _STALE_S):
            return None
        ends = [now if batch is None else batch[1] + seconds(batch[0]) for batch in running]
        free_at = sorted(now + abs(end - now) for end in ends)  # a batch that is late may be as late again
        return Forecast(tuple(free_at), tuple(sizes), tuple(accumulate(map(seconds, sizes), max)))

    def _estimate(self, size: int, quantile: float) -> float:
        """A size not measured yet takes as long as the next larger one, or longer by its rows than the next smaller."""
        known = sorted(self._measured)
        if not known:
            return 0.0
        nearest = known[min(bisect.bisect_left(known, size), len(known) - 1)]
        measured = sorted(self._measured[nearest])
        return measured[int(quantile * (len(measured) - 1) + 0.5)] * max(1.0, size / nearest)


def reason_to_drop(work: Work) -> str:
    """Return why work that is cancelled was dropped: its call expired, or was cancelled by its caller."""
    return "expired" if ran_out_of_time(work.deadline) else "cancelled"
