"""Estimates: how long a batch or a file takes, and which deadlines cannot be met."""

import bisect
from collections import deque

from progan_service.serving.batching.queue import Work
from progan_service.serving.watching.calls import ran_out_of_time

MIN_RETRY_S = 0.01

_KEPT = 5  # measurements of each size


class Pace:
    """How long a batch takes, by its padded size. The last five measurements of a size count.

    Two of five may be far off, as when the machine was busy with something else for a moment. A lasting change is
    believed after three batches.

    Only a thread that holds the owner's lock records. Any thread may read.
    """

    def __init__(self) -> None:
        self._measured: dict[int, deque[float]] = {}

    def record(self, size: int, seconds: float) -> None:
        """Note that a batch of `size` rows, padding included, took so long."""
        self._measured.setdefault(size, deque(maxlen=_KEPT)).append(seconds)

    def seconds(self, size: int) -> float:
        """Return the median time of a batch of this size; 0 before the first batch of any size."""
        return self._estimate(size, 0.5)

    def seconds_at_worst(self, size: int) -> float:
        """Return the time that four of the last five batches of this size kept; 0 before the first of any size."""
        return self._estimate(size, 0.75)

    def _estimate(self, size: int, quantile: float) -> float:
        """A size not measured yet takes as long as the next larger one, or longer by its rows than the next smaller."""
        known = sorted(self._measured)
        if not known:
            return 0.0
        nearest = known[min(bisect.bisect_left(known, size), len(known) - 1)]
        measured = sorted(self._measured[nearest])
        return measured[int(quantile * (len(measured) - 1) + 0.5)] * max(1.0, size / nearest)


def too_late(work: Work, wait_s: float) -> str:
    """Return the error text if work that takes `wait_s` ends after its deadline, else an empty text."""
    if not work.queued_at + wait_s > work.deadline > work.queued_at:
        return ""
    left_s = work.deadline - work.queued_at
    return f"the deadline in {left_s:.3g} s cannot be met: {counted(work.rows)} would take {wait_s:.3g} s"


def counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def reason_to_drop(work: Work) -> str:
    """Return why work that is cancelled was dropped: its call expired, or was cancelled by its caller."""
    return "expired" if ran_out_of_time(work.deadline) else "cancelled"
