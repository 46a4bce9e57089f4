"""TODO"""

from progan_service.serving.batching.queue import Work
from progan_service.serving.watching.calls import ran_out_of_time

MIN_RETRY_S = 0.01


def too_late(work: Work, wait_s: float) -> str:
    """What there is to say of work that would end after its deadline, in so many seconds; empty when it would not."""
    if not work.queued_at + wait_s > work.deadline > work.queued_at:
        return ""
    left_s = work.deadline - work.queued_at
    return f"the deadline in {left_s:.3g} s cannot be met: {counted(work.rows)} would take {wait_s:.3g} s"


def counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def reason_to_drop(work: Work) -> str:
    """Return why work that is cancelled was dropped: its call expired, or was cancelled by its caller."""
    return "expired" if ran_out_of_time(work.deadline) else "cancelled"
