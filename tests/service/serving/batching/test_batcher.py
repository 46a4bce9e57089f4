"""Rows of many requests share the batches of one or more devices."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError
from progan_service.serving.batching.request import Generated
from progan_service.serving.batching.sizes import LargestBatch
from progan_service.serving.batching.work import Priority
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull, Unavailable
from progan_service.serving.watching.metrics import Metrics

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
        self.batcher = DynamicBatcher([self.device.run], config, self.metrics, "puppet")

    def submit(
        self, *values: float, deadline_s: float = float("inf"), patient: bool = False
    ) -> asyncio.Task[Generated]:
        """A request of one row for each value."""
        inputs = np.array(values, np.float32)[:, None]
        deadline = time.monotonic() + deadline_s
        return asyncio.create_task(self.batcher.submit((inputs,), deadline, patient=patient))

    def set_pace(self, seconds: float, ago_s: float = 0.0) -> None:
        """As if batches of all sizes had taken `seconds`."""
        for size in [1, 2, 4] * 5:
            self.batcher._pace.record(size, seconds, time.monotonic() - ago_s)

    async def queued(self, rows: int) -> None:
        await until(lambda: sum(map(self.batcher.queued_rows, Priority)) == rows)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        samples = [sample for family in self.metrics.registry.collect() for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


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

    batcher = DynamicBatcher([add], BatchingConfig(max_batch_size=2), Metrics(), "puppet")
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
        played.set_pace(2.0)
        played.device.hold()
        waiting = [played.submit(2), played.submit(3)]
        await played.device.is_at(2)
        await played.queued(1)
        with pytest.raises(QueueFull, match=r"the deadline in 3.* s cannot be met: 1 image would take 5 s"):
            await played.submit(4, deadline_s=3)
        assert played.metric("progan_rows_dropped_total", reason="rejected") == 1
        soon_enough = played.submit(5, deadline_s=30)
        played.device.go_on()
        assert [numbers(generated) for generated in await asyncio.gather(*waiting, soon_enough)] == [[4], [6], [10]]


async def test_a_device_that_has_been_idle_is_given_a_chance() -> None:
    async with scene() as played:
        await played.submit(1)
        played.set_pace(100.0, ago_s=2.0)
        assert numbers(await played.submit(2, deadline_s=3)) == [4]


async def test_a_promise_that_a_slower_device_cannot_keep_is_dropped_before_it_costs_a_row() -> None:
    """Of two calls that were to end within 3 s, one can still be in time."""
    async with busy_scene(max_batch_size=1) as played:
        played.set_pace(1.0)
        calls = [played.submit(1, deadline_s=3), played.submit(2, deadline_s=3)]
        await played.queued(2)
        played.set_pace(2.0)
        played.device.go_on()
        with pytest.raises(QueueFull, match="the deadline cannot be met any more: the device has become slower"):
            await calls[0]
        assert numbers(await calls[1]) == [4]
        assert played.device.batches == [[100], [2]]
        assert played.metric("progan_rows_dropped_total", reason="rejected") == 1


async def test_a_call_is_due_earlier_by_what_the_event_loop_takes_to_pick_up_its_images() -> None:
    """At most by a quarter of its time."""
    async with scene(max_batch_size=1) as played:
        await played.submit(1)
        played.set_pace(10.0)
        played.batcher._lag.record(1, 60.0, time.monotonic())
        with pytest.raises(QueueFull, match="the deadline in 9 s cannot be met"):
            await played.submit(2, deadline_s=12)
        assert numbers(await played.submit(3, deadline_s=30)) == [6]


async def test_queue_times_are_measured_by_model_and_priority() -> None:
    async with scene() as played:
        await played.submit(1)
        await played.batcher.submit((np.ones((1, 1), np.float32),), priority=Priority.BULK)
        for priority in ("interactive", "bulk"):
            labels = {"model": "puppet", "priority": priority}
            assert played.metric("progan_queue_duration_seconds_count", **labels) == 1


async def test_a_caller_who_leaves_wastes_the_rows_that_are_in_a_batch_and_no_others() -> None:
    async with busy_scene(max_batch_size=4) as played:
        large = played.submit(1, 2, 3, 4, 5, 6)
        await played.queued(6)
        played.device.go_on()
        await large
        played.device.hold()
        running = played.submit(1, 2)
        await played.device.is_at(4)
        waiting = played.submit(3, 4, 5)
        await played.queued(3)
        for call in (running, waiting):
            call.cancel()
        await played.queued(0)
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert played.metric("progan_rows_wasted_total") == 2
        assert played.metric("progan_rows_dropped_total", reason="cancelled") == 3


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


async def test_the_time_to_come_back_is_the_time_until_there_is_room() -> None:
    async with busy_scene(max_batch_size=1, max_queued_rows=4) as played:
        waiting = [played.submit(1), played.submit(2), played.submit(3), played.submit(4)]
        await played.queued(4)
        for rows in (1, 3):
            with pytest.raises(QueueFull) as refusal:
                await played.submit(*range(rows))
            assert refusal.value.retry_after_s == pytest.approx(rows * 0.1)  # a first batch is expected to take 0.1 s
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
    batcher = DynamicBatcher([device.run for device in devices], BatchingConfig(max_batch_size=2), Metrics(), "puppet")
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
    batcher = DynamicBatcher([device.run for device in devices], BatchingConfig(max_batch_size=2), Metrics(), "puppet")
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


async def test_batches_grow_when_larger_ones_show_themselves_better_while_calls_wait() -> None:
    """Every batch takes 0.25 s, so 4 images a batch are best. The start took 1 for the best."""
    device = Device()
    config = BatchingConfig(max_batch_size=4, max_queued_rows=2000)
    mistaken = LargestBatch([1, 2, 4], [{1: 0.1, 2: 0.25, 4: 0.5}] * 5)
    batcher = DynamicBatcher([device.run], config, Metrics(), "puppet", mistaken)
    assert batcher.max_batch_size == 1
    inputs = np.arange(1000, dtype=np.float32)[:, None] % 100
    assert numbers(await batcher.submit((inputs,))) == [2 * int(value) for value in inputs[:, 0]]
    assert batcher.max_batch_size == 4
    sizes = [len(batch) for batch in device.batches]
    assert sizes[:7] == [1] * 7
    assert sizes[-20:].count(4) >= 17
    assert numbers(await batcher.submit((inputs[:1],))) == [0]
    assert len(device.batches[-1]) == 1
    batcher.close()
