"""Which works are let in, and which rows are in the next batch."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.queue import BatchQueue, Refusal
from progan_service.serving.batching.work import Priority, Work
from progan_service.serving.config import BatchingConfig

IDLE = Forecast(free_at=(0.0,), sizes=(1, 2, 4), seconds=(1.0, 1.0, 1.0))  # a batch of any size takes 1 s


def queue(max_queued_rows: int = 100) -> BatchQueue:
    return BatchQueue(BatchingConfig(max_batch_size=4, max_queued_rows=max_queued_rows))


def filled(*works: Work) -> BatchQueue:
    """A queue with these works, first come first."""
    waiting = queue(max_queued_rows=20_000)
    for work in works:
        assert waiting.admit(work) is None
    return waiting


def batches(waiting: BatchQueue, works: list[Work], most_rows: int = 4) -> Iterator[list[tuple[int, int, int]]]:
    """All batches until the queue is empty, as (place of the work, start, stop)."""
    while batch := waiting.take(most_rows):
        yield [(works.index(piece.work), piece.start, piece.stop) for piece in batch]


def due(seconds: float, rows: int = 4, caller: str = "a", priority: Priority = Priority.INTERACTIVE) -> Work:
    return Work(rows, seconds, caller=caller, priority=priority)


# --- taking a batch ---


def test_an_empty_queue_gives_an_empty_batch() -> None:
    assert queue().take(4) == []


def test_what_is_there_is_taken_at_once_even_when_a_batch_holds_more() -> None:
    works = [Work(1), Work(2)]
    assert list(batches(filled(*works), works)) == [[(0, 0, 1), (1, 0, 2)]]


def test_a_big_request_is_spread_over_batches_in_order() -> None:
    works = [Work(10)]
    assert list(batches(filled(*works), works)) == [[(0, 0, 4)], [(0, 4, 8)], [(0, 8, 10)]]


def test_calls_are_served_one_after_the_other_and_fill_their_batches() -> None:
    works = [Work(3), Work(3)]
    assert list(batches(filled(*works), works)) == [[(0, 0, 3), (1, 0, 1)], [(1, 1, 3)]]


def test_a_lone_row_that_comes_in_the_middle_of_ten_thousand_is_in_the_next_batch() -> None:
    works = [Work(10_000), Work(1)]
    waiting = filled(works[0])
    waiting.take(4)
    waiting.admit(works[1])
    assert next(batches(waiting, works)) == [(1, 0, 1), (0, 4, 7)]


def test_discarded_rows_are_never_taken_and_make_room() -> None:
    works = [Work(3), Work(3)]
    waiting = filled(*works)
    assert waiting.discard(works[0]) == 3
    assert waiting.rows == 3
    assert list(batches(waiting, works)) == [[(1, 0, 3)]]


def test_discard_of_a_request_under_way_counts_the_rows_that_still_waited() -> None:
    work = Work(10)
    waiting = filled(work)
    waiting.take(4)
    assert waiting.discard(work) == 6
    assert waiting.discard(work) == 0


def test_interactive_work_comes_before_bulk_which_gets_what_is_left() -> None:
    works = [Work(10, priority=Priority.BULK), Work(3)]
    assert list(batches(filled(*works), works)) == [
        [(1, 0, 3), (0, 0, 1)],
        [(0, 1, 5)],
        [(0, 5, 9)],
        [(0, 9, 10)],
    ]


def test_under_interactive_load_bulk_work_comes_first_in_every_eighth_batch() -> None:
    bulk = Work(9, priority=Priority.BULK)
    waiting = filled(bulk, Work(900))
    served = [[piece.rows for piece in waiting.take(4) if piece.work is bulk] for _ in range(24)]
    assert [place for place, rows in enumerate(served, 1) if rows] == [8, 16, 24]
    assert bulk.waiting == 0


def test_who_would_be_late_otherwise_comes_first_whatever_the_turns() -> None:
    """Two of the rows that are due by 2 s cannot wait for the batch from 1 s to 2 s."""
    small, pressing = Work(1, caller="b"), due(2.0, rows=6)
    waiting = filled(small, pressing)
    assert [(piece.work, piece.rows) for piece in waiting.take(4, IDLE)] == [(pressing, 3), (small, 1)]


def test_a_batch_is_smaller_rather_than_late() -> None:
    quick = Forecast((0.0,), (1, 2, 4), (0.25, 0.5, 1.0))
    lone, large = due(0.6, rows=1), Work(30, caller="b")
    waiting = filled(large, lone)
    assert [(piece.work, piece.rows) for piece in waiting.take(4, quick)] == [(lone, 1), (large, 1)]


def test_what_cannot_be_in_time_any_more_is_late() -> None:
    waiting = filled(due(0.5), due(1.0), Work(4))
    (late,) = waiting.late(0.0, IDLE)
    assert late.deadline == 0.5


def test_without_a_forecast_what_is_late_has_expired() -> None:
    expired, waits, patient = due(4.0), due(5.1), Work(4, 4.5, patient=True)
    assert filled(waits, patient, expired).late(5.0) == [expired, patient]


def test_rows_are_counted_by_priority() -> None:
    waiting = filled(Work(10, priority=Priority.BULK), Work(3))
    assert (waiting.rows, waiting.rows_of(Priority.INTERACTIVE), waiting.rows_of(Priority.BULK)) == (13, 3, 10)
    waiting.take(4)
    assert (waiting.rows, waiting.rows_of(Priority.INTERACTIVE), waiting.rows_of(Priority.BULK)) == (9, 0, 9)


# --- room ---


def test_a_request_that_does_not_fit_is_refused_whole() -> None:
    waiting = queue(max_queued_rows=10)
    assert waiting.admit(Work(7)) is None
    refusal = Refusal("no room for 4 images: 7 wait already, max_queued_rows is 10", rows=1)
    assert waiting.admit(Work(4)) == refusal
    assert waiting.rows == 7


def test_the_bound_itself_fits_and_a_taken_batch_makes_room() -> None:
    waiting = queue(max_queued_rows=10)
    assert waiting.admit(Work(10)) is None
    assert waiting.admit(Work(1))
    waiting.take(4)
    assert waiting.admit(Work(4)) is None


def test_while_others_ask_the_last_eighth_of_the_queue_is_for_those_with_few_rows() -> None:
    waiting = queue(max_queued_rows=80)
    assert waiting.admit(Work(1, caller="polite")) is None
    assert waiting.admit(Work(69, caller="greedy")) is None
    assert waiting.admit(Work(1, caller="greedy")) == Refusal(
        "no room for 1 image: 69 of this caller wait already, and the last eighth of max_queued_rows 80 is for callers "
        "with fewer",
        rows=1,
    )
    assert waiting.admit(Work(10, caller="polite")) is None


# --- deadlines ---


def test_a_deadline_that_cannot_be_met_is_refused() -> None:
    waiting = queue()
    assert waiting.admit(due(2.0, rows=8), IDLE) is None
    refusal = Refusal("the deadline in 2 s cannot be met: 1 image would take 3 s", rows=1)
    assert waiting.admit(due(2.0, rows=1), IDLE) == refusal


def test_work_without_a_deadline_is_not_in_the_way_of_work_with_one() -> None:
    waiting = filled(Work(90))
    assert waiting.admit(due(2.0, rows=8), IDLE) is None


def test_patient_work_is_let_in_whatever_its_deadline_and_promises_nothing() -> None:
    waiting = queue()
    assert waiting.admit(Work(50, 2.0, patient=True), IDLE) is None
    assert waiting.admit(due(2.0, rows=8), IDLE) is None


def test_a_caller_alone_leaves_a_quarter_of_the_time_beyond_four_batches() -> None:
    """By 40 s 160 rows can be done."""
    waiting = queue(max_queued_rows=1000)
    admitted = 0
    while waiting.admit(due(40.0, rows=4), IDLE) is None:
        admitted += 4
    assert admitted == 120


def test_two_callers_that_ask_for_too_much_have_a_quarter_of_the_time_each() -> None:
    """One more quarter is left for who comes next, and nearly one for those who have nothing waiting."""
    waiting = queue(max_queued_rows=1000)
    admitted = {"a": 0, "b": 0}
    for _ in range(100):
        for caller in admitted:
            if waiting.admit(due(40.0, rows=4, caller=caller), IDLE) is None:
                admitted[caller] += 4
    assert admitted == {"a": 44, "b": 40}
    assert waiting.admit(due(40.0, rows=60, caller="c"), IDLE) is None


def test_a_caller_that_has_its_share_is_told_so() -> None:
    waiting = queue()
    assert waiting.admit(due(8.0, rows=1, caller="b"), IDLE) is None
    assert waiting.admit(due(8.0, rows=13), IDLE) is None
    assert waiting.admit(due(8.0, rows=4), IDLE) == Refusal(
        "no room for 4 images before the deadline in 8 s: this caller has its share, the rest is for others", rows=3.0
    )


def test_while_interactive_callers_ask_all_bulk_together_has_an_eighth_of_the_time() -> None:
    waiting = queue(max_queued_rows=1000)
    admitted = {Priority.BULK: 1, Priority.INTERACTIVE: 0}
    assert waiting.admit(due(40.0, 1, "bulk 0", Priority.BULK), IDLE) is None
    for priority in (Priority.INTERACTIVE, Priority.BULK):
        for number in range(150):
            caller = "interactive" if priority is Priority.INTERACTIVE else f"bulk {number % 3}"
            if waiting.admit(due(40.0, 1, caller, priority), IDLE) is None:
                admitted[priority] += 1
    assert admitted == {Priority.INTERACTIVE: 63, Priority.BULK: 17}  # of 160 that can be done by then


# --- any order of events ---


class QueueModel(RuleBasedStateMachine):
    """Any order of admit, take and discard, against a naive model: the rows that each work waits with."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = BatchQueue(BatchingConfig(max_batch_size=5, max_queued_rows=17))
        self.waiting: dict[Work, list[int]] = {}  # insertion order is arrival order
        self.bulk_left_out = 0

    @rule(
        rows=st.integers(1, 20),
        flow=st.sampled_from([None, "a", "b"]),
        caller=st.sampled_from("xy"),
        priority=st.sampled_from(Priority),
        deadline=st.sampled_from([float("inf"), 3.0, 10.0]),
    )
    def admit(self, rows: int, flow: str | None, caller: str, priority: Priority, deadline: float) -> None:
        work = Work(rows, deadline, flow=flow, caller=caller, priority=priority)
        refusal = self.queue.admit(work)
        assert refusal or self.total() + rows <= 17
        if not refusal:
            self.waiting[work] = list(range(rows))

    @rule(forecast=st.sampled_from([None, Forecast((0.0,), (1, 5), (0.5, 1.0))]))
    def take(self, forecast: Forecast | None) -> None:
        total, bulk = self.total(), self.total(Priority.BULK)
        batch = self.queue.take(5, forecast)
        rows = sum(piece.rows for piece in batch)
        assert rows == min(5, total) or (forecast and 0 < rows <= 5)  # full when enough rows wait, never above
        assert len({piece.work for piece in batch}) == len(batch)  # one piece a work
        for piece in batch:
            assert self.waiting[piece.work][: piece.rows] == list(range(piece.start, piece.stop))  # in order, once
            del self.waiting[piece.work][: piece.rows]
        bulk_taken = bulk - self.total(Priority.BULK)
        if not forecast and bulk_taken and self.total(Priority.INTERACTIVE):
            assert self.bulk_left_out == 7
        self.bulk_left_out = self.bulk_left_out + 1 if bulk and not bulk_taken else 0
        self.waiting = {work: rows for work, rows in self.waiting.items() if rows}

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(list(self.waiting)))
        assert self.queue.discard(work) == len(self.waiting.pop(work))
        assert self.queue.discard(work) == 0

    @invariant()
    def counts_rows(self) -> None:
        assert [self.queue.rows_of(priority) for priority in Priority] == [self.total(p) for p in Priority]

    def total(self, *priorities: Priority) -> int:
        return sum(len(rows) for work, rows in self.waiting.items() if work.priority in (priorities or Priority))


TestQueueModel = QueueModel.TestCase


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 8))
def test_every_row_comes_out_once_and_in_order_in_full_batches(sizes: list[int], most_rows: int) -> None:
    works = [Work(rows) for rows in sizes]
    out: dict[int, list[int]] = {place: [] for place in range(len(sizes))}
    taken = list(batches(filled(*works), works, most_rows))
    for batch in taken:
        for place, start, stop in batch:
            out[place] += range(start, stop)
    assert out == {place: list(range(rows)) for place, rows in enumerate(sizes)}
    assert all(sum(stop - start for _, start, stop in batch) == most_rows for batch in taken[:-1])
