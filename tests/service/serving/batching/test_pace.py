"""How long a batch takes, and which deadlines cannot be met."""

import pytest

from progan_service.serving.batching.pace import Pace, too_late
from progan_service.serving.batching.queue import Work


def paced(**seconds: list[float]) -> Pace:
    """A pace with measurements by size: `paced(of_4=[0.1, 0.2])`."""
    pace = Pace()
    for size, measured in seconds.items():
        for each in measured:
            pace.record(int(size.removeprefix("of_")), each)
    return pace


def test_before_the_first_batch_nothing_is_known() -> None:
    assert Pace().seconds(4) == 0.0


def test_the_first_measurement_is_the_pace() -> None:
    assert paced(of_4=[2.0]).seconds(4) == 2.0


def test_two_batches_that_were_held_up_change_nothing() -> None:
    assert paced(of_4=[2.0, 2.0, 2.0, 90.0, 90.0]).seconds(4) == 2.0


def test_a_lasting_change_is_believed_after_three_batches() -> None:
    assert paced(of_4=[2.0, 2.0, 2.0, 2.0, 2.0, 8.0, 8.0, 8.0]).seconds(4) == 8.0


def test_at_worst_a_batch_takes_what_four_of_the_last_five_kept() -> None:
    assert paced(of_4=[2.0, 5.0, 3.0, 90.0, 4.0]).seconds_at_worst(4) == 5.0


def test_each_size_has_its_own_pace() -> None:
    pace = paced(of_1=[0.5], of_4=[2.0])
    assert (pace.seconds(1), pace.seconds(4)) == (0.5, 2.0)


def test_a_size_that_was_not_measured_is_not_underestimated() -> None:
    """It may take as long as the next larger one, and each row of it as long as one of the next smaller."""
    pace = paced(of_2=[1.0], of_8=[2.0])
    assert [pace.seconds(size) for size in (1, 4, 8, 16)] == [1.0, 2.0, 2.0, 4.0]


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
