"""Rows of many requests become batches: the queue's rules, then the batcher around them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from progan_service.serving.batching.batcher import DynamicBatcher, Generated
from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError
from progan_service.serving.batching.queue import BatchQueue, Priority, Slice, Work, padded_size
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull, Unavailable
from progan_service.serving.watching.metrics import Metrics

# --- BatchQueue ---


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


# --- DynamicBatcher ---

Inputs = tuple[NDArray[np.float32], ...]


class Device:
    """Doubles numbers: an image is one pixel, twice its input. While `held`, batches wait for `go_on`."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.fails_at: float | None = None
        self.most_rows = 1000  # that fit into its memory
        self._held = False
        self._waiting: list[Callable[[], None]] = []

    def hold(self) -> None:
        self._held = True

    def go_on(self) -> None:
        self._held = False
        while self._waiting:
            self._waiting.pop(0)()

    def run(self, inputs: Inputs, done: Callable[[Batch | Exception], None]) -> None:
        self.batches.append(inputs[0][:, 0].tolist())
        outcome = self._outcome(inputs[0])
        finish = partial(asyncio.get_running_loop().call_soon, done, outcome)
        self._waiting.append(finish) if self._held else finish()

    def _outcome(self, values: NDArray[np.float32]) -> Batch | Exception:
        if len(values) > self.most_rows:
            return DeviceOutOfMemoryError()
        if self.fails_at in values:
            return RuntimeError("the device is on fire")
        return Batch((2 * values).astype(np.uint8).reshape(-1, 1, 1, 1), seconds=0.25)

    async def is_at(self, number: int) -> None:
        """Wait until the device has met its batch `number`, the first is 1."""
        await until(lambda: len(self.batches) >= number)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


class Scene:
    """A device and the batcher in front of it."""

    def __init__(self, max_batch_size: int = 4, max_queued_rows: int = 8) -> None:
        self.device = Device()
        self.metrics = Metrics()
        config = BatchingConfig(max_batch_size=max_batch_size, max_queued_rows=max_queued_rows)
        self.batcher = DynamicBatcher([self.device.run], config, self.metrics)

    def submit(
        self, *values: float, deadline_s: float = float("inf"), patient: bool = False
    ) -> asyncio.Task[Generated]:
        """A request of one row for each value."""
        inputs = np.array(values, np.float32)[:, None]
        deadline = time.monotonic() + deadline_s
        return asyncio.create_task(self.batcher.submit((inputs,), deadline, patient=patient))

    async def queued(self, rows: int) -> None:
        await until(lambda: sum(map(self.batcher.queued_rows, Priority)) == rows)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def scene(max_batch_size: int = 4, max_queued_rows: int = 8) -> AsyncIterator[Scene]:
    played = Scene(max_batch_size, max_queued_rows)
    try:
        yield played
    finally:
        played.batcher.close()


@asynccontextmanager
async def busy_scene(max_batch_size: int = 4, max_queued_rows: int = 8) -> AsyncIterator[Scene]:
    """The device is held at a first batch: the row 100."""
    async with scene(max_batch_size, max_queued_rows) as played:
        played.device.hold()
        first = played.submit(100)
        await played.device.is_at(1)
        yield played
        played.device.go_on()
        assert numbers(await first) == [200]


def numbers(generated: Generated) -> list[int]:
    assert generated.pixels.dtype == np.uint8
    assert generated.pixels.shape[1:] == (1, 1, 1)
    return generated.pixels[:, 0, 0, 0].tolist()


async def test_a_lone_request_is_run_at_once() -> None:
    async with scene() as played:
        assert numbers(await played.submit(3)) == [6]
        assert played.device.batches == [[3]]


async def test_what_arrives_while_the_device_works_forms_the_next_batch() -> None:
    async with busy_scene() as played:
        requests = [played.submit(1), played.submit(2), played.submit(3, 4)]
        await played.queued(4)
        played.device.go_on()
        assert [numbers(await request) for request in requests] == [[2], [4], [6, 8]]
        assert played.device.batches == [[100], [1, 2, 3, 4]]


async def test_a_big_request_comes_back_whole_and_in_order() -> None:
    async with scene() as played:
        assert numbers(await played.submit(1, 2, 3, 4, 5, 6, 7)) == [2, 4, 6, 8, 10, 12, 14]
        assert played.device.batches == [[1, 2, 3, 4], [5, 6, 7, 5]]


async def test_each_caller_gets_its_own_rows_in_order_when_many_mix() -> None:
    rng = np.random.default_rng(7)
    asked = [rng.integers(0, 100, rng.integers(1, 12)).tolist() for _ in range(50)]
    async with scene(max_queued_rows=1000) as played:
        answers = await asyncio.gather(*(played.submit(*values) for values in asked))
    assert [numbers(answer) for answer in answers] == [[2 * value for value in values] for values in asked]


async def test_labels_travel_with_their_latents() -> None:
    def add(inputs: Inputs, done: Callable[[Batch | Exception], None]) -> None:
        done(Batch((inputs[0] + inputs[1]).astype(np.uint8).reshape(-1, 1, 1, 1), seconds=0.0))

    batcher = DynamicBatcher([add], BatchingConfig(max_batch_size=2), Metrics())
    latents, labels = np.array([[1], [2], [3]], np.float32), np.array([[10], [20], [30]], np.float32)
    assert numbers(await batcher.submit((latents, labels))) == [11, 22, 33]
    batcher.close()


async def test_padding_repeats_a_row_and_never_reaches_a_caller() -> None:
    async with scene() as played:
        assert numbers(await played.submit(1, 2, 3)) == [2, 4, 6]
        assert played.device.batches == [[1, 2, 3, 1]]


async def test_padding_rows_are_counted_and_batches_are_measured_without_them() -> None:
    async with scene() as played:
        await played.submit(1, 2, 3)
        assert played.metric("progan_batch_padding_rows_total") == 1
        assert played.metric("progan_batch_rows_sum") == 3


async def test_the_reply_tells_the_longest_wait_and_the_time_of_all_its_batches() -> None:
    async with busy_scene() as played:
        request = played.submit(1, 2, 3, 4, 5)
        await asyncio.sleep(0.05)
        played.device.go_on()
        generated = await request
        assert generated.inference_s == 0.5  # two batches of 0.25 s
        assert 0.05 <= generated.queue_s < 60


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async with busy_scene(max_queued_rows=8) as played:
        waiting = played.submit(1, 2, 3, 4, 5, 6)
        await played.queued(6)
        with pytest.raises(QueueFull, match="no room for 3 images: 6 wait already, max_queued_rows is 8") as refusal:
            await played.submit(7, 8, 9)
        assert 0 < refusal.value.retry_after_s < 60
        assert played.metric("progan_rows_dropped_total", reason="rejected") == 3
        played.device.go_on()
        assert numbers(await waiting) == [2, 4, 6, 8, 10, 12]


async def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    async with scene(max_batch_size=1) as played:
        await played.submit(1)
        played.batcher._pace.seconds = 2.0  # the pace it has measured
        played.device.hold()
        waiting = [played.submit(2), played.submit(3)]
        await played.device.is_at(2)
        await played.queued(1)
        with pytest.raises(QueueFull, match=r"the deadline in 3.* s cannot be met: 1 image would take 4 s"):
            await played.submit(4, deadline_s=3)
        assert played.metric("progan_rows_dropped_total", reason="rejected") == 1
        soon_enough = played.submit(5, deadline_s=30)
        played.device.go_on()
        assert [numbers(generated) for generated in await asyncio.gather(*waiting, soon_enough)] == [[4], [6], [10]]


async def test_an_idle_device_is_given_every_chance() -> None:
    async with scene() as played:
        await played.submit(1)
        played.batcher._pace.seconds = 100.0
        assert numbers(await played.submit(2, deadline_s=3)) == [4]


async def test_the_patient_wait_for_room() -> None:
    async with busy_scene(max_batch_size=2, max_queued_rows=2) as played:
        first = played.submit(1, 2)
        await played.queued(2)
        patient = played.submit(3, 4, patient=True)
        await asyncio.sleep(0.01)
        assert not patient.done()
        played.device.go_on()
        assert [numbers(generated) for generated in await asyncio.gather(first, patient)] == [[2, 4], [6, 8]]
        assert played.metric("progan_rows_dropped_total", reason="rejected") == 0


async def test_the_patient_hear_of_the_end() -> None:
    async with scene(max_batch_size=2, max_queued_rows=2) as played:
        played.device.hold()
        runs = played.submit(100)
        await played.device.is_at(1)
        waits = played.submit(1, 2)
        await played.queued(2)
        patient = played.submit(3, patient=True)
        await asyncio.sleep(0.01)
        played.batcher.close()
        for task in (runs, waits, patient):
            with pytest.raises(Unavailable):
                await task


async def test_the_time_to_come_back_grows_with_the_queue() -> None:
    async with busy_scene(max_batch_size=1, max_queued_rows=4) as played:
        waiting = [played.submit(1), played.submit(2), played.submit(3), played.submit(4)]
        await played.queued(4)
        with pytest.raises(QueueFull) as refusal:
            await played.submit(5)
        assert refusal.value.retry_after_s == pytest.approx(4 * 0.1)  # before any batch is through, one counts 0.1 s
        played.device.go_on()
        await asyncio.gather(*waiting)


async def test_rows_of_a_caller_that_has_gone_are_not_run_while_its_neighbours_are() -> None:
    async with busy_scene() as played:
        gone, stays = played.submit(1, 2), played.submit(3)
        await played.queued(3)
        gone.cancel()
        await played.queued(1)
        played.device.go_on()
        assert numbers(await stays) == [6]
        assert gone.cancelled()
        assert played.device.batches == [[100], [3]]
        assert played.metric("progan_rows_dropped_total", reason="cancelled") == 2


async def test_a_caller_that_goes_in_the_same_moment_as_the_device_comes_free_harms_nobody() -> None:
    async with busy_scene() as played:
        gone, stays = played.submit(1), played.submit(2)
        await played.queued(2)
        played.device.go_on()
        gone.cancel()
        assert numbers(await stays) == [4]


async def test_a_caller_that_goes_while_its_batch_runs_harms_nobody() -> None:
    async with busy_scene() as played:
        gone, stays = played.submit(1, 2, 3, 4, 5, 6), played.submit(7)
        await played.queued(7)
        played.device.go_on()
        await played.device.is_at(2)
        gone.cancel()
        assert numbers(await stays) == [14]
        await played.queued(0)
        assert numbers(await played.submit(9)) == [18]


async def test_rows_whose_deadline_passes_in_the_queue_are_not_run_while_their_neighbours_are() -> None:
    async with busy_scene() as played:
        late, stays = played.submit(1, 2, deadline_s=0.2), played.submit(3)
        await played.queued(3)
        await asyncio.sleep(0.25)
        played.device.go_on()
        with pytest.raises(DeadlineExceeded):
            await late
        assert numbers(await stays) == [6]
        assert played.device.batches == [[100], [3]]
        assert played.metric("progan_rows_dropped_total", reason="expired") == 2


async def test_a_caller_that_is_cut_off_at_its_deadline_was_late_and_did_not_leave() -> None:
    async with busy_scene() as played:
        late, gone = played.submit(1, 2, deadline_s=0.03), played.submit(3)
        await played.queued(3)
        late.cancel()
        gone.cancel()
        await asyncio.gather(late, gone, return_exceptions=True)
        assert played.metric("progan_rows_dropped_total", reason="expired") == 2
        assert played.metric("progan_rows_dropped_total", reason="cancelled") == 1


async def test_a_deadline_that_has_passed_at_the_door_queues_nothing() -> None:
    async with busy_scene() as played:
        with pytest.raises(DeadlineExceeded):
            await played.submit(1, deadline_s=-1)
        assert played.batcher.queued_rows(Priority.INTERACTIVE) == 0
        assert played.metric("progan_rows_dropped_total", reason="expired") == 1


async def test_a_failing_batch_fails_its_own_requests_and_no_others() -> None:
    async with busy_scene(max_batch_size=2) as played:
        played.device.fails_at = 2
        first, second, third = played.submit(1), played.submit(2), played.submit(3)
        await played.queued(3)
        played.device.go_on()
        for victim in (first, second):
            with pytest.raises(RuntimeError, match="on fire"):
                await victim
        assert numbers(await third) == [6]


async def test_what_is_left_of_a_failed_request_is_not_run() -> None:
    async with scene(max_batch_size=2) as played:
        played.device.fails_at = 1
        with pytest.raises(RuntimeError, match="on fire"):
            await played.submit(1, 2, 3, 4)
        assert played.batcher.queued_rows(Priority.INTERACTIVE) == 0
        assert numbers(await played.submit(5)) == [10]
        assert played.device.batches == [[1, 2], [5]]


async def test_close_refuses_new_work() -> None:
    async with scene() as played:
        played.batcher.close()
        with pytest.raises(Unavailable, match="shutting down"):
            await played.submit(1)


async def test_close_fails_what_runs_and_what_waits() -> None:
    async with scene() as played:
        played.device.hold()
        running = played.submit(1)
        await played.device.is_at(1)
        waiting = played.submit(2)
        await played.queued(1)
        played.batcher.close()
        for request in (running, waiting):
            with pytest.raises(Unavailable, match="shutting down"):
                await request


async def test_nothing_of_a_request_stays_behind_however_it_ended() -> None:
    async with busy_scene(max_batch_size=2) as played:
        played.device.fails_at = 1
        failed, gone, late = played.submit(1), played.submit(2), played.submit(3, deadline_s=0.2)
        fine = played.submit(4)
        await played.queued(4)
        gone.cancel()
        await asyncio.sleep(0.25)
        played.device.go_on()
        await asyncio.gather(failed, gone, late, fine, return_exceptions=True)
        assert played.batcher.queued_rows(Priority.INTERACTIVE) == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


# Several devices


async def test_batches_go_to_whichever_device_is_free() -> None:
    devices = [Device(), Device()]
    batcher = DynamicBatcher([device.run for device in devices], BatchingConfig(max_batch_size=2), Metrics())
    devices[0].hold()
    held = asyncio.create_task(batcher.submit((np.array([[1.0]], np.float32),)))
    await devices[0].is_at(1)
    others = await batcher.submit((np.array([[2.0], [3.0], [4.0]], np.float32),))
    assert numbers(others) == [4, 6, 8]
    assert (devices[0].batches, devices[1].batches) == ([[1]], [[2, 3], [4]])
    devices[0].go_on()
    assert numbers(await held) == [2]
    batcher.close()


async def test_the_parts_of_a_request_come_together_in_order_whichever_device_is_first() -> None:
    devices = [Device(), Device()]
    batcher = DynamicBatcher([device.run for device in devices], BatchingConfig(max_batch_size=2), Metrics())
    devices[0].hold()
    whole = asyncio.create_task(batcher.submit((np.arange(6, dtype=np.float32)[:, None],)))
    await devices[1].is_at(2)
    devices[0].go_on()
    assert numbers(await whole) == [0, 2, 4, 6, 8, 10]
    batcher.close()


# Too large for the device


async def test_a_batch_that_does_not_fit_is_run_in_parts_and_the_size_is_remembered() -> None:
    async with scene(max_batch_size=8, max_queued_rows=100) as played:
        played.device.most_rows = 2
        assert numbers(await played.submit(*range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
        assert [len(batch) for batch in played.device.batches] == [8, 4, 4, 2, 2, 2, 2]
        played.device.batches.clear()
        assert numbers(await played.submit(*range(5))) == [0, 2, 4, 6, 8]
        assert [len(batch) for batch in played.device.batches] == [2, 2, 1]
        assert played.metric("progan_out_of_memory_total") == 3


async def test_requests_that_shared_a_batch_that_does_not_fit_each_get_their_own() -> None:
    async with busy_scene(max_batch_size=4) as played:
        played.device.most_rows = 2
        both = played.submit(1, 2, 3), played.submit(4)
        await played.queued(4)
        played.device.go_on()
        assert [numbers(generated) for generated in await asyncio.gather(*both)] == [[2, 4, 6], [8]]


async def test_one_row_that_does_not_fit_fails() -> None:
    async with scene() as played:
        played.device.most_rows = 0
        with pytest.raises(DeviceOutOfMemoryError):
            await played.submit(1, 2)


async def test_parts_of_a_caller_that_has_gone_are_not_run() -> None:
    async with scene() as played:
        played.device.most_rows = 2
        played.device.hold()
        gone = played.submit(1, 2, 3, 4)
        await played.device.is_at(1)
        gone.cancel()
        await asyncio.sleep(0)
        played.device.go_on()
        assert numbers(await played.submit(5)) == [10]
        assert played.device.batches == [[1, 2, 3, 4], [5]]


async def test_how_long_a_batch_has_been_running_is_known() -> None:
    async with scene() as played:
        assert played.batcher.busy_s() == 0
        played.device.hold()
        task = played.submit(1)
        await played.device.is_at(1)
        await asyncio.sleep(0.02)
        assert 0.02 <= played.batcher.busy_s() < 60
        played.device.go_on()
        await task
        assert played.batcher.busy_s() == 0
