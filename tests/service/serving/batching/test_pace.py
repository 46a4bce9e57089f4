"""How long a batch takes, and which deadlines cannot be met."""

import pytest

from progan_service.serving.batching.pace import Pace, too_late
from progan_service.serving.batching.queue import Work


def test_the_first_measurement_is_the_pace_and_later_ones_move_it() -> None:
    pace = Pace(newest=0.25)
    assert pace.seconds == 0.0
    pace.record(2.0)
    assert pace.seconds == 2.0
    pace.record(4.0)
    assert pace.seconds == 2.5


@pytest.mark.parametrize(
    ("deadline", "text"),
    [
        (13.0, ""),
        (12.0, ""),
        (11.5, "the deadline in 1.5 s cannot be met: 3 images would take 2 s"),
        (10.0, ""),  # it has passed already, which is another error
        (float("inf"), ""),
    ],
)
def test_work_that_would_end_after_its_deadline_is_too_late(deadline: float, text: str) -> None:
    assert too_late(Work(3, deadline, queued_at=10.0), wait_s=2.0) == text
