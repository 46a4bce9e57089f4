"""Estimates: how long a batch or a file takes, and which deadlines cannot be met."""

from progan_service.serving.batching.queue import Work
from progan_service.serving.watching.calls import ran_out_of_time

MIN_RETRY_S = 0.01


class Pace:
    """How long one batch, or one file, takes: `seconds`, smoothed over the last few; 0 before the first.

    Only a thread that holds the owner's lock records. Any thread may read `seconds`.
    """

    def __init__(self, newest: float) -> None:
        """`newest` is the weight of the newest measurement, between 0 and 1."""
        self.seconds = 0.0
        self._newest = newest

    def record(self, seconds: float) -> None:
        self.seconds += (seconds - self.seconds) * (self._newest if self.seconds else 1.0)


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
