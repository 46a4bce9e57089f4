"""Which rows are in the next batch."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from progan_service.serving.batching.queue import BatchQueue, Priority, Slice, Work, in_parts, padded_size
from progan_service.serving.config import BatchingConfig


def queue(max_batch_size: int = 4, max_queued_rows: int = 100) -> BatchQueue:
    return BatchQueue(BatchingConfig(max_batch_size=max_batch_size, max_queued_rows=max_queued_rows))


def filled(*sizes: int, max_batch_size: int = 4, max_queued_rows: int = 20_000) -> tuple[BatchQueue, list[Work]]:
    """A queue with one request of each size, first come first."""
    works = [Work(rows) for rows in sizes]
    waiting = queue(max_batch_size, max_queued_rows)
    assert all(waiting.put(work) for work in works)
    return waiting, works


def batches(waiting: BatchQueue, works: list[Work]) -> Iterator[list[tuple[int, int, int]]]:
    """All batches until the queue is empty, as (place of the request, start, stop)."""
    while batch := waiting.take():
        yield [(works.index(piece.work), piece.start, piece.stop) for piece in batch]


def test_an_empty_queue_gives_an_empty_batch() -> None:
    assert queue().take() == []


def test_what_is_there_is_taken_at_once_even_when_a_batch_holds_more() -> None:
    waiting, works = filled(1, 2)
    assert list(batches(waiting, works)) == [[(0, 0, 1), (1, 0, 2)]]


def test_a_big_request_is_spread_over_batches_in_order() -> None:
    waiting, works = filled(10)
    assert list(batches(waiting, works)) == [[(0, 0, 4)], [(0, 4, 8)], [(0, 8, 10)]]


def test_two_big_requests_share_each_batch_evenly() -> None:
    waiting, works = filled(4, 4)
    assert list(batches(waiting, works)) == [[(0, 0, 2), (1, 0, 2)], [(0, 2, 4), (1, 2, 4)]]


def test_what_a_small_request_leaves_of_its_share_goes_to_the_big_one() -> None:
    waiting, works = filled(9, 1)
    assert next(batches(waiting, works)) == [(0, 0, 3), (1, 0, 1)]


def test_a_lone_row_behind_ten_thousand_is_in_the_next_batch() -> None:
    waiting, works = filled(10_000, 1)
    assert (1, 0, 1) in next(batches(waiting, works))


def test_a_lone_row_that_comes_in_the_middle_of_ten_thousand_is_in_the_next_batch() -> None:
    waiting, works = filled(10_000)
    waiting.take()
    works.append(Work(1))
    waiting.put(works[1])
    assert next(batches(waiting, works)) == [(0, 4, 7), (1, 0, 1)]


def test_those_left_out_of_a_batch_come_before_those_that_were_in_it() -> None:
    waiting, works = filled(2, 2, 2, max_batch_size=2)
    assert list(batches(waiting, works)) == [
        [(0, 0, 1), (1, 0, 1)],
        [(2, 0, 1), (0, 1, 2)],
        [(1, 1, 2), (2, 1, 2)],
    ]


def test_a_request_that_does_not_fit_is_refused_whole() -> None:
    waiting = queue(max_queued_rows=10)
    waiting.put(Work(7))
    assert not waiting.put(Work(4))
    assert waiting.rows == 7


def test_the_bound_itself_fits() -> None:
    waiting = queue(max_queued_rows=10)
    assert waiting.put(Work(7))
    assert waiting.put(Work(3))
    assert waiting.rows == 10


def test_a_taken_batch_makes_room() -> None:
    waiting = queue(max_queued_rows=10)
    waiting.put(Work(10))
    waiting.take()
    assert waiting.put(Work(4))


def test_discarded_rows_are_never_taken_and_make_room() -> None:
    waiting, works = filled(3, 3, max_queued_rows=6)
    assert waiting.discard(works[0]) == 3
    assert waiting.rows == 3
    assert list(batches(waiting, works)) == [[(1, 0, 3)]]


def test_discard_of_a_request_under_way_counts_the_rows_that_still_waited() -> None:
    waiting, works = filled(10)
    waiting.take()
    assert waiting.discard(works[0]) == 6


def test_discard_of_a_request_that_is_through_changes_nothing() -> None:
    waiting, works = filled(2, 2)
    waiting.take()
    assert waiting.discard(works[0]) == 0
    assert waiting.rows == 0


def test_expired_names_those_whose_deadline_has_come() -> None:
    waiting = queue()
    past, now, later, never = Work(1, deadline=4.0), Work(1, deadline=5.0), Work(1, deadline=5.1), Work(1)
    for work in (past, now, later, never):
        waiting.put(work)
    assert waiting.expired(5.0) == [past, now]


def test_expired_passes_over_requests_whose_rows_are_all_taken() -> None:
    waiting = queue()
    waiting.put(Work(2, deadline=4.0))
    waiting.take()
    assert waiting.expired(5.0) == []


def test_works_of_one_flow_take_one_turn_together() -> None:
    stream = [Work(1, flow="stream") for _ in range(5)]
    lone = Work(3)
    waiting = queue()
    for work in (*stream, lone):
        waiting.put(work)
    assert list(batches(waiting, [*stream, lone])) == [
        [(0, 0, 1), (1, 0, 1), (5, 0, 2)],
        [(2, 0, 1), (3, 0, 1), (4, 0, 1), (5, 2, 3)],
    ]


def test_bulk_work_gets_what_interactive_work_leaves() -> None:
    bulk, interactive = Work(10, priority=Priority.BULK), Work(3)
    waiting = queue()
    waiting.put(bulk)
    waiting.put(interactive)
    assert list(batches(waiting, [bulk, interactive])) == [
        [(1, 0, 3), (0, 0, 1)],
        [(0, 1, 5)],
        [(0, 5, 9)],
        [(0, 9, 10)],
    ]


def test_under_interactive_load_bulk_work_has_the_first_pick_of_every_eighth_batch() -> None:
    bulk = Work(9, priority=Priority.BULK)
    waiting = queue(max_queued_rows=1000)
    waiting.put(bulk)
    waiting.put(Work(900))
    served = [[piece.rows for piece in waiting.take() if piece.work is bulk] for _ in range(24)]
    assert [place for place, rows in enumerate(served, 1) if rows] == [8, 16, 24]
    assert bulk.waiting == 0


def test_rows_are_counted_by_priority() -> None:
    waiting = queue()
    waiting.put(Work(10, priority=Priority.BULK))
    waiting.put(Work(3))
    assert (waiting.rows, waiting.rows_of(Priority.INTERACTIVE), waiting.rows_of(Priority.BULK)) == (13, 3, 10)
    waiting.take()
    assert (waiting.rows, waiting.rows_of(Priority.INTERACTIVE), waiting.rows_of(Priority.BULK)) == (9, 0, 9)


@pytest.mark.parametrize(
    ("waiting", "rows", "expected"),
    [
        ([], 1, 1),
        ([], 9, 3),
        ([100], 1, 1),  # a turn comes with the next batch
        ([100], 8, 4),  # half of each batch
        ([1], 8, 3),
        ([1] * 10, 1, 3),  # more flows than rows in a batch
        ([1] * 10, 4, 4),
    ],
)
def test_how_many_batches_new_work_takes(waiting: list[int], rows: int, expected: int) -> None:
    ahead, _ = filled(*waiting)
    assert ahead.batches_until_done(rows, Priority.INTERACTIVE) == expected


def test_bulk_work_waits_for_all_interactive_work() -> None:
    ahead, _ = filled(40)
    assert ahead.batches_until_done(4, Priority.BULK) == 11


class QueueModel(RuleBasedStateMachine):
    """Any order of put, take and discard, against a naive model: the rows that each work waits with."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue(max_batch_size=5, max_queued_rows=17)
        self.waiting: dict[Work, list[int]] = {}  # insertion order is arrival order
        self.bulk_left_out = 0

    @rule(rows=st.integers(1, 20), flow=st.sampled_from([None, "a", "b"]), priority=st.sampled_from(Priority))
    def put(self, rows: int, flow: str | None, priority: Priority) -> None:
        fits = self.total() + rows <= 17
        work = Work(rows, flow=flow, priority=priority)
        assert self.queue.put(work) is fits
        if fits:
            self.waiting[work] = list(range(rows))

    @rule()
    def take(self) -> None:
        total, bulk = self.total(), self.total(Priority.BULK)
        batch = self.queue.take()
        assert sum(piece.rows for piece in batch) == min(5, total)  # full when enough rows wait, never above
        assert len({piece.work for piece in batch}) == len(batch)  # one piece a work
        for piece in batch:
            assert self.waiting[piece.work][: piece.rows] == list(range(piece.start, piece.stop))  # in order, once
            del self.waiting[piece.work][: piece.rows]
        self.check_priorities(batch, bulk)
        for priority in Priority:
            self.check_shares([piece for piece in batch if piece.work.priority is priority], priority)
        self.check_turns(batch)
        self.waiting = {work: rows for work, rows in self.waiting.items() if rows}

    def check_priorities(self, batch: list[Slice], bulk_before: int) -> None:
        """Bulk rows beside waiting interactive ones only in its turn; and its turn comes."""
        bulk_taken = bulk_before - self.total(Priority.BULK)
        if bulk_taken and self.total(Priority.INTERACTIVE):
            assert self.bulk_left_out == 7
        self.bulk_left_out = self.bulk_left_out + 1 if bulk_before and not bulk_taken else 0
        assert self.bulk_left_out < 8

    def check_shares(self, batch: list[Slice], priority: Priority) -> None:
        """Nobody has two rows more than one that wanted more."""
        rows: Counter[object] = Counter()
        for piece in batch:
            rows[piece.work.flow or piece.work] += piece.rows
        waiting = [work for work, left in self.waiting.items() if left and work.priority is priority]
        hungry = {work.flow or work for work in waiting} & rows.keys()
        assert all(taken <= min(rows[flow] for flow in hungry) + 1 for taken in rows.values() if hungry)

    def check_turns(self, batch: list[Slice]) -> None:
        """What a flow asked for first comes first."""
        for piece in batch:
            mine = [w for w in self.waiting if w.flow == piece.work.flow and w.priority is piece.work.priority]
            if piece.work.flow:
                earlier = mine[: mine.index(piece.work)]
                assert not any(self.waiting[work] for work in earlier)

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
def test_every_row_comes_out_once_and_in_order_in_full_batches(sizes: list[int], max_batch_size: int) -> None:
    waiting, works = filled(*sizes, max_batch_size=max_batch_size)
    out: dict[int, list[int]] = {place: [] for place in range(len(sizes))}
    taken = list(batches(waiting, works))
    for batch in taken:
        for place, start, stop in batch:
            out[place] += range(start, stop)
    assert out == {place: list(range(rows)) for place, rows in enumerate(sizes)}
    assert all(sum(stop - start for _, start, stop in batch) == max_batch_size for batch in taken[:-1])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 8))
def test_nobody_waits_longer_than_one_round(sizes: list[int], max_batch_size: int) -> None:
    waiting, works = filled(*sizes, max_batch_size=max_batch_size)
    round_batches = -(-len(sizes) // max_batch_size)
    first_round = [
        place for _, batch in zip(range(round_batches), batches(waiting, works), strict=False) for place, _, _ in batch
    ]
    assert set(first_round) == set(range(len(sizes)))


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 4), (4, 4), (5, 6), (6, 6)])
def test_a_batch_is_padded_to_the_smallest_allowed_size_that_holds_it(rows: int, size: int) -> None:
    assert padded_size(rows, BatchingConfig(max_batch_size=6, allowed_batch_sizes=(1, 4, 6))) == size


def test_a_batch_is_cut_into_parts_with_the_same_rows_in_order() -> None:
    first, second = Work(5), Work(2)
    parts = in_parts([Slice(first, 1, 5), Slice(second, 0, 2)], 3)
    assert parts == [[Slice(first, 1, 4)], [Slice(first, 4, 5), Slice(second, 0, 2)]]
