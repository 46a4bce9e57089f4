"""The histogram of durations: percentiles of known samples, in little memory."""

import math
import random

import pytest

from progan_client.load.histogram import Histogram


def histogram(*seconds: float) -> Histogram:
    filled = Histogram()
    for each in seconds:
        filled.add(each)
    return filled


def test_percentiles_of_one_to_a_thousand_milliseconds() -> None:
    thousand = histogram(*(number / 1000 for number in random.Random(1).sample(range(1, 1001), 1000)))
    assert thousand.percentile(50) == pytest.approx(0.500, rel=0.01)
    assert thousand.percentile(90) == pytest.approx(0.900, rel=0.01)
    assert thousand.percentile(99) == pytest.approx(0.990, rel=0.01)
    assert thousand.percentile(99.9) == pytest.approx(0.999, rel=0.01)
    assert thousand.percentile(100) == 1.0
    assert (thousand.count, thousand.min_s, thousand.max_s) == (1000, 0.001, 1.0)
    assert thousand.mean_s == pytest.approx(0.5005)


@pytest.mark.parametrize("seconds", [1e-9, 3.3e-6, 0.0101, 1.0, 77.7, 86_400.0])
def test_every_magnitude_is_within_one_percent(seconds: float) -> None:
    assert histogram(seconds / 2, seconds, seconds * 2).percentile(50) == pytest.approx(seconds, rel=0.01)


def test_a_percentile_never_leaves_what_was_measured() -> None:
    assert histogram(0.2).percentile(50) == histogram(0.2, 0.2, 0.2).percentile(1) == 0.2
    assert histogram(0.0, 0.0).percentile(50) == 0.0


def test_the_rank_is_the_nearest_one() -> None:
    assert histogram(1.0, 2.0, 3.0, 4.0).percentile(50) == pytest.approx(2.0, rel=0.01)
    assert histogram(1.0, 2.0, 3.0, 4.0).percentile(51) == pytest.approx(3.0, rel=0.01)


def test_nothing_has_no_percentiles() -> None:
    assert math.isnan(Histogram().percentile(50))
    assert math.isnan(Histogram().mean_s)
    assert Histogram().buckets() == []


def test_memory_does_not_grow_with_the_number() -> None:
    draw = random.Random(0)
    many = histogram(*(draw.lognormvariate(-3, 1) for _ in range(50_000)))
    assert many.count == 50_000
    assert len(many.buckets()) < 500


def test_buckets_hold_what_they_say() -> None:
    buckets = histogram(0.001, 0.001, 0.5).buckets()
    assert [count for _, _, count in buckets] == [2, 1]
    assert buckets[0][0] < 0.001 <= buckets[0][1]
    assert buckets[1][0] < 0.5 <= buckets[1][1] < 0.5 * 1.021


def test_neighbouring_buckets_can_be_one() -> None:
    whole = histogram(*(1.01**power for power in range(100)))
    merged = whole.buckets(merge=10)
    assert sum(count for _, _, count in merged) == 100
    assert all(up_to / above == pytest.approx(1.2214, abs=0.0001) for above, up_to, _ in merged)
