"""Which deadlines can be met."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progan_service.serving.batching.deadlines import Deadlines, Forecast
from progan_service.serving.batching.work import Work

# An idle device: a batch of 4 takes 1 s, one of 1 takes 0.5 s.
IDLE = Forecast(free_at=(0.0,), sizes=(1, 4), seconds=(0.5, 1.0))


def deadlines(*works: Work) -> Deadlines:
    waiting = Deadlines()
    for work in works:
        waiting.put(work)
    return waiting


def lacking(waiting: Deadlines, new: Work, forecast: Forecast = IDLE) -> float:
    """The rows that are too many, by any deadline, if new work is let in."""
    rows = sum(work.waiting for work, _ in waiting.first(1000)) + new.rows
    demand = waiting.demand_with(new, rows, forecast)
    return float((demand.due - demand.done).max())


@pytest.mark.parametrize(
    ("rows", "deadline", "expected"),
    [
        (4, 1.0, 0),
        (4, 0.9, 3),
        (1, 0.5, 0),  # a batch of 1
        (8, 2.0, 0),
        (9, 2.9, 1),
        (9, 3.0, -3),
    ],
)
def test_work_alone_can_be_done_by_a_deadline(rows: int, deadline: float, expected: float) -> None:
    assert lacking(deadlines(), Work(rows, deadline)) == expected


def test_the_rest_of_the_batch_that_runs_counts() -> None:
    busy = Forecast((0.75,), IDLE.sizes, IDLE.seconds)
    assert lacking(deadlines(), Work(4, 1.5), busy) == 3
    assert lacking(deadlines(), Work(4, 1.75), busy) == 0


def test_work_that_is_due_later_must_still_be_in_time() -> None:
    waiting = deadlines(Work(4, 2.0))
    assert lacking(waiting, Work(4, 1.0)) == 0
    assert lacking(waiting, Work(5, 1.5)) == 1


def test_work_that_is_due_later_may_wait() -> None:
    assert lacking(deadlines(Work(100, 30.0)), Work(4, 1.0)) == 0


def test_several_devices_compute_at_the_same_time() -> None:
    pair = Forecast((0.0, 0.5), IDLE.sizes, IDLE.seconds)
    assert lacking(deadlines(), Work(8, 1.5), pair) == 0
    assert lacking(deadlines(), Work(8, 1.4), pair) == 4


def test_where_batches_overlap_the_first_of_an_idle_device_takes_longer_than_the_others() -> None:
    """A batch of 4 ends 1.5 s after it has begun, and 1 s after the one before it."""
    idle = Forecast((0.0, 0.0), IDLE.sizes, IDLE.seconds, not_before={1: 0.75, 4: 1.5})
    alone = Forecast((0.0,), IDLE.sizes, IDLE.seconds, idle.not_before)
    assert [lacking(deadlines(), Work(rows, 1.5), alone) for rows in (1, 4, 8)] == [0, 0, 4]
    assert [lacking(deadlines(), Work(rows, 2.5), alone) for rows in (8, 12)] == [0, 4]
    assert lacking(deadlines(), Work(4, 1.4), alone) == 3  # a batch of 1 ends in time
    assert lacking(deadlines(), Work(8, 1.5), idle) == 0
    assert lacking(deadlines(), Work(8, 1.4), idle) == 7


def test_those_due_first_come_first_and_those_that_came_first_of_these() -> None:
    late, early, same = Work(2, 3.0), Work(2, 1.0), Work(2, 1.0)
    assert list(deadlines(late, early, same).first(5)) == [(early, 2), (same, 2), (late, 1)]


def test_nothing_presses_while_everything_can_wait_for_a_batch() -> None:
    assert deadlines(Work(4, 3.0)).pressing(20, IDLE) == (4, 0)


def test_the_rows_that_cannot_wait_for_the_next_batch_press() -> None:
    assert deadlines(Work(3, 1.5), Work(4, 2.0)).pressing(20, IDLE) == (4, 3)


def test_a_batch_is_smaller_if_it_would_end_after_a_deadline() -> None:
    assert deadlines(Work(1, 0.6)).pressing(20, IDLE) == (1, 1)


def test_what_is_taken_or_discarded_is_no_longer_due() -> None:
    first, second = Work(4, 1.0), Work(4, 2.0)
    waiting = deadlines(first, second)
    first.taken = 3
    waiting.update(first)
    assert list(waiting.first(10)) == [(first, 1), (second, 4)]
    first.taken = 4
    waiting.update(first)
    assert list(waiting.first(10)) == [(second, 4)]
    assert len(waiting) == 1


def test_passed_names_those_whose_deadline_has_come() -> None:
    past, now, later = Work(1, 4.0), Work(1, 5.0), Work(1, 5.1)
    assert deadlines(later, past, now).passed(5.0) == [past, now]


def test_nobody_is_dropped_while_all_can_be_in_time() -> None:
    assert hopeless(deadlines(Work(4, 1.0), Work(4, 2.0))) == []


def test_one_large_work_is_dropped_rather_than_two_small_ones() -> None:
    first, large, second = Work(2, 1.0), Work(8, 1.5), Work(2, 1.5)
    assert hopeless(deadlines(first, large, second)) == [large]


def test_a_work_that_is_nearly_done_is_kept() -> None:
    """Eight rows are wanted and four can be done: with two more, all ten of the first are useful."""
    begun, new = Work(10, 1.0, taken=6), Work(4, 1.0)
    assert hopeless(deadlines(begun, new)) == [new]


def test_a_deadline_that_no_batch_can_meet_is_hopeless() -> None:
    nobody = Work(1, 0.4)
    assert hopeless(deadlines(nobody, Work(4, 2.0))) == [nobody]


def hopeless(waiting: Deadlines) -> list[Work]:
    return waiting.hopeless(sum(work.waiting for work, _ in waiting.first(1000)), IDLE)


works = st.lists(st.tuples(st.integers(1, 12), st.floats(0.1, 12)), min_size=1, max_size=25)


@given(works, st.floats(0, 1))
def test_what_is_let_in_is_done_in_time_earliest_deadline_first(asked: list[tuple[int, float]], busy_s: float) -> None:
    forecast = Forecast((busy_s,), IDLE.sizes, IDLE.seconds)
    waiting = Deadlines()
    for rows, deadline in asked:
        if lacking(waiting, work := Work(rows, deadline), forecast) <= 0:
            waiting.put(work)
    now = busy_s
    while len(waiting):
        rows = sum(work.waiting for work, _ in waiting.first(1000))
        size, _ = waiting.pressing(rows, Forecast((now,), IDLE.sizes, IDLE.seconds))
        now += IDLE.seconds[IDLE.sizes.index(size)]
        for work, taken in list(waiting.first(size)):
            assert now <= work.deadline + 1e-6
            work.taken += taken
            waiting.update(work)


@given(works)
def test_after_the_hopeless_have_gone_nobody_is(asked: list[tuple[int, float]]) -> None:
    waiting = deadlines(*(Work(rows, deadline) for rows, deadline in asked))
    for work in hopeless(waiting):
        work.taken = work.rows
        waiting.update(work)
    assert hopeless(waiting) == []
