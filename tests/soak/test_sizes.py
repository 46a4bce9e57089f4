"""The largest batch size, searched at random: devices of any speed, starts of any luck, machines of any business."""

import random
from itertools import pairwise

import pytest

from progan_service.serving.batching.sizes import LargestBatch

SIZES = (1, 2, 4, 8, 16)
BATCHES = 12_000


def any_device(chance: random.Random) -> dict[int, float]:
    """Return seconds by batch size: each doubling takes 1.1 to 2.4 times as long, up to a batch of 3 s."""
    seconds = {1: 10 ** chance.uniform(-3, -0.7)}
    for smaller, size in pairwise(SIZES):
        seconds[size] = seconds[smaller] * chance.uniform(1.1, 2.4)
    return {size: each for size, each in seconds.items() if each < 3}


@pytest.mark.parametrize("seed", range(200))
def test_the_size_is_right_in_the_end_and_trials_are_cheap(seed: int) -> None:
    chance = random.Random(f"{seed} {random.random()}")
    seconds = any_device(chance)
    noise, burst_s, burst = chance.uniform(0.01, 0.2), chance.uniform(1, 60), chance.choice([1.0, 1.5, 3.0])
    wrong = {size: each * chance.uniform(0.5, 2) for size, each in seconds.items()}
    largest = LargestBatch(list(seconds), [wrong] * chance.choice([1, 2, 5]))
    now, changes = 0.0, 0
    for _ in range(BATCHES):
        before, size = largest.rows, largest.next(1000)
        busy = burst if now % (2 * burst_s) < burst_s else 1.0
        taken = seconds[size] * busy * (1 + abs(chance.gauss(0, noise)))
        now += taken
        largest.record(size, taken)
        changes += largest.rows != before
    story = f"{seconds}, noise {noise}, {burst} times as slow for {burst_s} s, began with {wrong}: {largest.rows}"
    reachable = [size for size in seconds if size == 1 or seconds[size // 2] <= 0.5]
    best = max(size / seconds[size] for size in reachable)
    assert largest.rows / seconds[largest.rows] >= 0.85 * best, story
    assert changes <= BATCHES / 400, story
