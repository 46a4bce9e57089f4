"""Two batches in flight on a device: one is copied while the other is computed. The clock is simulated."""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError
from progan_service.serving.batching.work import Priority
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import QueueFull, Unavailable
from progan_service.serving.watching.metrics import Metrics

T = TypeVar("T")

ROWS = 4  # of the largest batch
COPY_IN, COMPUTE, COPY_OUT = 0.010, 0.060, 0.030  # seconds of such a batch
SUM = COPY_IN + COMPUTE + COPY_OUT


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next event."""

    def __init__(self) -> None:
        self.now = 0.0
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                assert timeout is not None, "nothing will ever happen"
                loop.now += timeout
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self.now


class Pipeline:
    """A device with three stages that work at the same time, each on one batch. An image is its input, doubled.

    stages      seconds of a batch of four rows; fewer take as much less
    most_rows   that fit into its memory, of all batches in flight
    """

    def __init__(self, *stages: float, most_rows: int = 1000) -> None:
        self.sizes: list[int] = []
        self.most_in_flight = 0
        self._row_s = [seconds / ROWS for seconds in stages]
        self._free_at = [0.0] * len(stages)
        self._most_rows = most_rows
        self._in_flight: list[int] = []

    def run(self, inputs: tuple[NDArray[np.float32], ...], done: Callable[[Batch | Exception], None]) -> None:
        values = inputs[0]
        self.sizes.append(len(values))
        self._in_flight.append(len(values))
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))
        outcome: Batch | Exception
        loop = asyncio.get_running_loop()
        end = loop.time()
        if sum(self._in_flight) > self._most_rows:
            outcome = DeviceOutOfMemoryError()
        else:
            for stage, row_s in enumerate(self._row_s):
                end = self._free_at[stage] = max(end, self._free_at[stage]) + len(values) * row_s
            outcome = Batch((2 * values).astype(np.uint8).reshape(-1, 1, 1, 1), end - loop.time())

        def finish() -> None:
            self._in_flight.remove(len(values))
            done(outcome)

        loop.call_at(end, finish)


class Scene:
    """Devices and the batcher in front of them, in the running simulation."""

    def __init__(self, in_flight: int, *devices: Pipeline) -> None:
        self.loop = asyncio.get_running_loop()
        self.devices = devices or (Pipeline(COPY_IN, COMPUTE, COPY_OUT),)
        self.metrics = Metrics()
        config = BatchingConfig(max_batch_size=ROWS, max_queued_rows=10_000)
        runs = [device.run for device in self.devices]
        self.batcher = DynamicBatcher(runs, config, self.metrics, "puppet", in_flight=in_flight, clock=self.loop.time)

    async def submit(self, rows: int, within_s: float = float("inf"), caller: str = "") -> float:
        """Ask for images. Return when they are there."""
        values = np.arange(rows, dtype=np.float32)[:, None] % 100
        generated = await self.batcher.submit((values,), self.loop.time() + within_s, caller=caller)
        assert (generated.pixels[:, 0, 0, 0] == 2 * values[:, 0]).all()
        return self.loop.time()


def play(story: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(story(*arguments))


async def seconds_for(batches: int, in_flight: int, *devices: Pipeline) -> float:
    return await Scene(in_flight, *devices).submit(batches * ROWS)


def test_with_one_in_flight_a_batch_takes_the_sum_of_the_stages() -> None:
    assert play(seconds_for, 100, 1) == pytest.approx(100 * SUM)


def test_with_two_in_flight_a_batch_takes_as_long_as_the_slowest_stage() -> None:
    assert play(seconds_for, 100, 2) == pytest.approx(COPY_IN + 100 * COMPUTE + COPY_OUT)


def test_with_two_in_flight_no_batch_takes_less_than_half_the_sum() -> None:
    """Three equal stages would need three."""
    assert play(seconds_for, 100, 2, Pipeline(0.02, 0.02, 0.02)) == pytest.approx(100 * 0.03, rel=0.02)


async def crowd(in_flight: int, load: float, seconds: float = 30.0) -> tuple[Scene, float, int]:
    """Let calls of 1 to 8 images come at random, which are due in 0.5 s.

    Return the scene, the images/s that were in time, and the number of calls that were let in and late.
    """
    scene, chance, calls = Scene(in_flight), random.Random(5), []
    await scene.submit(40 * ROWS)
    begun = scene.loop.time()
    useful = late = 0

    async def call(rows: int, caller: str) -> None:
        nonlocal useful, late
        asked = scene.loop.time()
        try:
            ended = await scene.submit(rows, 0.5, caller)
        except QueueFull as refusal:
            late += "slower" in str(refusal)
            return
        useful += rows
        late += ended > asked + 0.5 + 1e-6

    while scene.loop.time() < begun + seconds:
        await asyncio.sleep(chance.expovariate(load * ROWS / COMPUTE / 4.5))
        calls.append(asyncio.create_task(call(chance.randint(1, 8), chance.choice("abcd"))))
    await asyncio.gather(*calls)
    return scene, useful / (scene.loop.time() - begun), late


@pytest.mark.parametrize("load", [0.3, 0.8, 1.0, 2.0, 5.0])
def test_never_more_than_two_are_in_flight_and_promises_are_kept(load: float) -> None:
    scene, _, late = play(crowd, 2, load)
    assert scene.devices[0].most_in_flight == 2
    assert late == 0


@pytest.mark.parametrize(("in_flight", "batch_s"), [(1, SUM), (2, COMPUTE)])
def test_an_overload_is_served_at_the_pace_of_the_device(in_flight: int, batch_s: float) -> None:
    _, per_s, late = play(crowd, in_flight, 3.0)
    assert late == 0
    assert per_s > 0.9 * ROWS / batch_s


PACES = pytest.mark.parametrize(("in_flight", "batch_s"), [(1, SUM), (2, COMPUTE)])


async def backlog(in_flight: int, batches: int, within_s: float = float("inf")) -> tuple[Scene, "asyncio.Task[float]"]:
    """A device whose pace is known, alone and with others in flight, and batches that have just come."""
    scene = Scene(in_flight)
    await scene.submit(10 * ROWS)
    await scene.submit(ROWS)
    task = asyncio.create_task(scene.submit(batches * ROWS, within_s))
    await asyncio.sleep(0)
    return scene, task


@PACES
def test_the_time_until_the_queue_is_empty_is_estimated(in_flight: int, batch_s: float) -> None:
    async def story() -> tuple[float, float]:
        scene, task = await backlog(in_flight, 20)
        estimate, begun = scene.batcher.until_empty_s(), scene.loop.time()
        while any(map(scene.batcher.queued_rows, Priority)):
            await asyncio.sleep(0.001)
        emptied_s = scene.loop.time() - begun
        await task
        return estimate, emptied_s

    estimate, emptied_s = play(story)
    assert estimate == pytest.approx((20 - in_flight) * batch_s)
    assert emptied_s == pytest.approx(estimate, abs=1.5 * batch_s)


@pytest.mark.parametrize(("in_flight", "expected_s"), [(1, 8 * SUM), (2, COPY_IN + 8 * COMPUTE + COPY_OUT)])
@pytest.mark.parametrize("late_s", [0.0, 0.005, 0.05])
def test_a_call_is_let_in_if_it_ends_in_time_and_no_other(in_flight: int, expected_s: float, late_s: float) -> None:
    """It comes a while after seven batches that are due before it, and is the eighth."""

    async def story(within_s: float) -> float:
        scene, task = await backlog(in_flight, 7, expected_s - 0.002)
        begun = scene.loop.time()
        await asyncio.sleep(late_s)
        ended = await scene.submit(ROWS, within_s - late_s, caller="another")
        await task
        return ended - begun

    assert play(story, expected_s + 0.001) <= expected_s + 0.001
    with pytest.raises(QueueFull, match="cannot be met"):
        play(story, expected_s - 0.001)


def test_an_idle_device_promises_no_batch_sooner_than_it_takes_alone() -> None:
    async def story(rows: int, within_s: float) -> float:
        scene, task = await backlog(2, 7)
        await task
        begun = scene.loop.time()
        return await scene.submit(rows, within_s) - begun

    for rows in (1, ROWS):
        assert play(story, rows, SUM + 0.001) < SUM + 0.001
    with pytest.raises(QueueFull, match="cannot be met"):
        play(story, ROWS, SUM - 0.001)


def test_rows_that_fill_no_batch_wait_for_the_end_of_the_one_that_runs() -> None:
    async def story() -> list[int]:
        scene = Scene(2)
        await asyncio.gather(*(scene.submit(1) for _ in range(ROWS)))
        return scene.devices[0].sizes

    assert play(story) == [1, 4]  # three, and one that fills the batch


def test_idle_devices_come_first() -> None:
    async def story() -> tuple[list[int], float]:
        devices = Pipeline(COPY_IN, COMPUTE, COPY_OUT), Pipeline(COPY_IN, COMPUTE, COPY_OUT)
        scene = Scene(2, *devices)
        seconds = await scene.submit(2 * ROWS)
        return [len(device.sizes) for device in devices], seconds

    assert play(story) == ([1, 1], SUM)


def test_the_capacity_is_that_of_overlapping_batches() -> None:
    async def story() -> float:
        scene = Scene(2)
        await scene.submit(50 * ROWS)
        return scene.batcher.images_per_s

    assert play(story) == pytest.approx(ROWS / COMPUTE)


def test_two_batches_that_do_not_fit_into_memory_together_are_run_one_after_the_other() -> None:
    async def story() -> tuple[list[int], int, float]:
        device = Pipeline(COPY_IN, COMPUTE, COPY_OUT, most_rows=ROWS)
        scene = Scene(2, device)
        await scene.submit(5 * ROWS)
        seconds = scene.loop.time()
        return device.sizes, scene.batcher.max_batch_size, seconds

    sizes, largest, seconds = play(story)
    assert sizes == [ROWS] * 6
    assert largest == ROWS
    assert seconds == pytest.approx(5 * SUM)


def test_one_batch_that_does_not_fit_alone_is_run_in_parts() -> None:
    async def story() -> tuple[int, int]:
        device = Pipeline(COPY_IN, COMPUTE, COPY_OUT, most_rows=ROWS // 2)
        scene = Scene(2, device)
        await scene.submit(5 * ROWS)
        return scene.batcher.max_batch_size, sum(device.sizes[-10:])

    assert play(story) == (2, 5 * ROWS)


def test_a_caller_that_leaves_takes_only_its_own_rows_along() -> None:
    async def story() -> tuple[list[int], float]:
        scene = Scene(2)
        gone, stays = (asyncio.create_task(scene.submit(4 * ROWS, caller=name)) for name in "ab")
        await asyncio.sleep(COPY_IN + COMPUTE)
        gone.cancel()
        await stays
        return scene.devices[0].sizes, scene.batcher.busy_s()

    sizes, busy_s = play(story)
    assert len(sizes) == 6  # the two that were in flight
    assert busy_s == 0


def test_a_device_that_hangs_is_seen_by_its_oldest_batch() -> None:
    async def story() -> float:
        scene = Scene(2, Pipeline(COPY_IN, 1000.0, COPY_OUT))
        task = asyncio.create_task(scene.submit(2 * ROWS))
        await asyncio.sleep(70)
        busy_s = scene.batcher.busy_s()
        scene.batcher.close()
        with pytest.raises(Unavailable):
            await task
        return busy_s

    assert play(story) == pytest.approx(70)
