"""The largest batch size: chosen at the start, corrected while the server serves.

The device is played: its batches take a known time, times noise and times how busy the machine is. No clock.
"""

import random
from collections.abc import Callable, Mapping

import pytest

from progan_service.serving.batching.sizes import LargestBatch

FULL_SIZE = {1: 0.103, 2: 0.2, 4: 0.36, 8: 0.667, 16: 1.33}  # seconds by size: the paper's 128x128 on two cores
NO_GAIN = {1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8, 16: 1.6}
ON_A_GPU = {1: 0.01, 2: 0.011, 4: 0.013, 8: 0.02, 16: 0.04}
CLIFF = {1: 0.1, 2: 0.19, 4: 0.35, 8: 0.66, 16: 4.0}  # what 16 images need does not fit into a cache, say


class Device:
    """A device with more work than it can do. `busy` is how many times as slow it is after so many seconds."""

    def __init__(
        self, seconds: Mapping[int, float], noise: float = 0.1, busy: Callable[[float], float] = lambda now: 1.0
    ) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.images = 0
        self._noise = noise
        self._busy = busy
        self._random = random.Random(7)

    def run(self, size: int) -> float:
        taken = self.seconds[size] * self._busy(self.now) * (1 + abs(self._random.gauss(0, self._noise)))
        self.now += taken
        self.images += size
        return taken

    def timed(self, rounds: int) -> list[dict[int, float]]:
        """Time the sizes that may be chosen at the start, as the warm-up does."""
        sizes = [size for size in self.seconds if all(s <= 1 for each, s in self.seconds.items() if 2 * each <= size)]
        return [{size: self.run(size) for size in sizes} for _ in range(rounds)]

    def serve(self, largest: LargestBatch, batches: int, waiting: int = 1000) -> list[int]:
        """Run batches. Return the sizes to which the largest batch changed."""
        changes = [largest.rows]
        for _ in range(batches):
            size = largest.next(waiting)
            largest.record(size, self.run(size))
            if largest.rows != changes[-1]:
                changes.append(largest.rows)
        return changes[1:]


def mistaken(seconds: Mapping[int, float], size: int) -> LargestBatch:
    """Return the choice after a start in which this size seemed to make twice as many images/s as the best."""
    best = max(size / taken for size, taken in seconds.items())
    largest = LargestBatch(list(seconds), [{**seconds, size: size / (2 * best)}] * 2)
    assert largest.rows == size
    return largest


def is_right(largest: LargestBatch, seconds: Mapping[int, float]) -> bool:
    """Return whether the size in use makes at least 90 % of the best images/s."""
    best = max(size / taken for size, taken in seconds.items())
    return largest.rows / seconds[largest.rows] >= 0.9 * best


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (FULL_SIZE, 8),  # 12.0 images/s; 1, 2 and 4 make 9.7 to 11.1, and 16 makes no more
        (NO_GAIN, 1),  # larger batches would only make calls wait
        (CLIFF, 8),
        (ON_A_GPU, 16),
        ({1: 0.001, 2: 0.002, 4: 0.004}, 4),  # no gain, but nobody waits for a batch of 4 ms
        ({1: 0.01, 2: 0.04, 4: 0.09}, 1),  # a size that is clearly worse is left, however short its batches
        ({1: 1.5, 2: 2.0, 4: 3.0}, 1),  # larger batches than one of 1.5 s make calls wait too long
        ({1: 0.6, 2: 1.05, 4: 1.4}, 2),
        ({1: 0.1}, 1),
    ],
    ids=str,
)
def test_a_quiet_start_finds_the_right_size(seconds: Mapping[int, float], expected: int) -> None:
    assert LargestBatch(list(seconds), Device(seconds, noise=0.01).timed(5)).rows == expected


def test_without_timings_the_largest_size_is_used() -> None:
    assert LargestBatch([1, 2, 4]).rows == 4


def test_one_round_decides_nothing() -> None:
    assert LargestBatch([1, 2, 4], [{1: 0.1, 2: 0.9}]).rows == 2


def test_in_doubt_the_larger_size_is_used() -> None:
    """By the means 2 images a batch would do. Two of five rounds say otherwise."""
    rounds = [{2: 0.200, 4: 0.4}, {2: 0.190, 4: 0.4}, {2: 0.195, 4: 0.4}, {2: 0.230, 4: 0.4}, {2: 0.240, 4: 0.4}]
    assert LargestBatch([2, 4], rounds).rows == 4
    assert LargestBatch([2, 4], [rounds[0]] * 4 + rounds[4:]).rows == 2


def test_the_capacity_is_known_from_the_start_and_follows_the_batches() -> None:
    assert LargestBatch([1, 2]).images_per_s == 0
    largest = LargestBatch([1, 2], [{1: 0.2, 2: 0.25}] * 2)
    assert largest.images_per_s == 8
    for _ in range(3):
        largest.record(1, 0.001)  # smaller batches tell nothing of it
        largest.record(2, 0.5)
    assert largest.images_per_s == 4


@pytest.mark.parametrize("noise", [0.05, 0.2])
@pytest.mark.parametrize("seconds", [FULL_SIZE, NO_GAIN, CLIFF, ON_A_GPU], ids=str)
@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_whatever_the_start_chose_serving_corrects_it(seconds: Mapping[int, float], size: int, noise: float) -> None:
    largest = mistaken(seconds, size)
    Device(seconds, noise).serve(largest, 4000)
    assert is_right(largest, seconds)


def test_a_server_that_started_on_a_busy_machine_does_not_stay_small_for_life() -> None:
    """Everything took four times as long: a batch of 4 took 1.4 s, so 8 and 16 were too long."""
    device = Device(FULL_SIZE, busy=lambda now: 4.0 if now < 60 else 1.0)
    largest = LargestBatch(list(FULL_SIZE), [{size: device.run(size) for size in (1, 2, 4)} for _ in range(3)])
    assert largest.rows == 4
    device.now = 60
    assert device.serve(largest, 1000)[0] == 8
    assert is_right(largest, FULL_SIZE)


@pytest.mark.parametrize(
    "busy",
    [
        lambda now: 1 + now / 300,  # ever slower
        lambda now: 3.0 if now % 20 < 10 else 1.0,
        lambda now: 1.5 if now % 3 < 1 else 1.0,
    ],
    ids=["drift", "long jumps", "short jumps"],
)
def test_a_machine_that_is_busy_now_and_then_does_not_mislead(busy: Callable[[float], float]) -> None:
    largest = LargestBatch(list(FULL_SIZE))
    largest.exclude(16)
    device = Device(FULL_SIZE, busy=busy)
    assert len(device.serve(largest, 3000)) <= 4
    assert is_right(largest, FULL_SIZE)


def test_it_does_not_change_to_and_fro_where_two_sizes_are_equally_good() -> None:
    """8 images a batch are exactly as much faster as they have to be."""
    border = {1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8 * 0.95}
    changes = Device(border).serve(LargestBatch(list(border)), 10_000)
    assert len(changes) <= 12


@pytest.mark.parametrize("seconds", [FULL_SIZE, CLIFF, ON_A_GPU, {1: 0.1, 2: 2.0, 4: 8.0}], ids=str)
def test_trials_cost_little(seconds: Mapping[int, float]) -> None:
    """2 % of the time, and at most one trial ahead of it."""
    right = 8 if seconds in (FULL_SIZE, CLIFF) else list(seconds)[-1 if seconds == ON_A_GPU else 0]
    largest = mistaken(seconds, right) if right == 1 else LargestBatch(list(seconds), [seconds] * 5)
    device = Device(seconds, noise=0.0)
    assert device.serve(largest, 3000) == []
    lost_s = device.now - device.images * seconds[right] / right
    assert lost_s <= 0.02 * device.now + max(seconds.values())


def test_only_what_waits_is_tried() -> None:
    largest = mistaken(FULL_SIZE, 4)
    device = Device(FULL_SIZE)
    assert device.serve(largest, 1000, waiting=4) == []
    assert device.serve(largest, 1000, waiting=8) == [8]


def test_the_next_larger_size_is_known_beforehand_so_that_enough_can_wait_for_it() -> None:
    largest = LargestBatch(list(FULL_SIZE))
    assert largest.tried == 16
    largest.exclude(16)
    assert (largest.rows, largest.tried) == (8, 8)
    assert mistaken(FULL_SIZE, 4).tried == 8
    assert LargestBatch([1, 2], [{1: 1.5}]).tried == 1  # a batch of 2 would take too long


def test_a_device_that_comes_to_rest_between_batches_measures_nothing() -> None:
    largest = mistaken(FULL_SIZE, 4)
    for _ in range(1000):
        assert largest.next(4) == 4
        largest.record(4, 0.36)
        assert largest.next(1) == 4
        largest.record(1, 0.01)
    assert largest.rows == 4


def test_a_size_that_does_not_fit_into_memory_is_never_used_again() -> None:
    largest = LargestBatch(list(ON_A_GPU))
    largest.exclude(8)
    assert largest.rows == 4
    device = Device(ON_A_GPU)
    assert device.serve(largest, 500) == []
    largest.exclude(1)
    assert largest.rows == 1
    largest.record(16, 0.04)  # of a batch that was under way
    assert largest.next(1000) == 1


def test_without_trials_the_size_stays_and_its_images_per_s_are_measured() -> None:
    """Here all batches overlap, and end every 0.01 s whatever their size."""
    largest = LargestBatch(list(ON_A_GPU), [ON_A_GPU] * 5, may_try=False)
    assert (largest.rows, largest.tried) == (16, 16)
    assert {largest.next(waiting=1000) for _ in range(100)} == {16}
    for size in [4, 16] * 50:
        largest.record(size, 0.01)
    assert largest.rows == 16
    assert largest.images_per_s == 1600
