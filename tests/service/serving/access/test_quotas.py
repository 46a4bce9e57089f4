"""The quota of a caller: so many images at once, and so many a second."""

import asyncio
from copy import copy
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progan_service.serving.access import quotas
from progan_service.serving.access.quotas import Bucket, Quotas
from progan_service.serving.errors import QuotaExceeded, Unavailable
from progan_service.serving.rights import Quota


def test_a_full_bucket_gives_its_images_at_once_and_then_at_its_rate() -> None:
    bucket = Bucket(Quota(images_per_s=10, images_at_once=4), now=100)
    assert bucket.call_wait_s(4, now=100) == 0
    bucket.take_for_call(4, now=100)
    assert bucket.call_wait_s(1, now=100) == pytest.approx(0.1)
    assert bucket.stream_wait_s(4, now=100.1) == pytest.approx(0.3)
    assert bucket.stream_wait_s(4, now=1000) == 0
    bucket.take_for_stream(4, now=1000)
    assert bucket.call_wait_s(1, now=1000) == pytest.approx(0.1)  # a long pause fills it, and no more than that


def test_a_stream_leaves_what_a_refused_call_was_promised_and_then_has_its_turn() -> None:
    bucket = Bucket(Quota(images_per_s=10, images_at_once=4), now=0)
    bucket.take_for_call(4, now=0)
    assert bucket.promise_s(3, now=0) == pytest.approx(0.3)
    assert bucket.stream_wait_s(1, now=0) == pytest.approx(0.4)  # three for the call, and one
    assert bucket.stream_wait_s(2, now=0) == pytest.approx(0.55)  # five at once are too many: until the call is late
    assert bucket.call_wait_s(3, now=0.3) == 0
    bucket.take_for_call(3, now=0.3)
    assert bucket.promise_s(3, now=0.3) == pytest.approx(0.5)  # two for the stream, and three
    assert bucket.stream_wait_s(2, now=0.3) == pytest.approx(0.2)


def test_a_call_that_does_not_come_back_holds_a_stream_up_for_a_quarter_of_a_second() -> None:
    bucket = Bucket(Quota(images_per_s=10, images_at_once=4), now=0)
    bucket.take_for_call(4, now=0)
    assert bucket.promise_s(4, now=0) == pytest.approx(0.4)
    assert bucket.stream_wait_s(1, now=0.64) > 0
    assert bucket.stream_wait_s(1, now=0.66) == 0


def test_calls_and_a_stream_that_take_what_they_can_both_go_on_and_no_call_is_refused_twice() -> None:
    bucket, come_back, answered, streamed = Bucket(Quota(images_per_s=10, images_at_once=5), 0.0), 0.0, 0, 0
    refusals_in_a_row = [0]
    for now in (tick / 100 for tick in range(10_000)):
        if now >= come_back and bucket.call_wait_s(3, now):
            come_back = now + bucket.promise_s(3, now)
            refusals_in_a_row[-1] += 1
        elif now >= come_back:
            bucket.take_for_call(3, now)
            answered += 1
            refusals_in_a_row.append(0)
        if not bucket.stream_wait_s(1, now):
            bucket.take_for_stream(1, now)
            streamed += 1
    assert max(refusals_in_a_row) == 1
    assert answered > 200
    assert streamed > 200
    assert 3 * answered + streamed == pytest.approx(1005, abs=5)


rates = st.floats(0.001, 1e6)
steps = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50), st.booleans()), min_size=1, max_size=30)


@given(rate=rates, at_once=st.integers(50, 1000), steps=steps)
def test_in_no_time_a_caller_gets_more_than_its_quota(
    rate: float, at_once: int, steps: list[tuple[float, int, bool]]
) -> None:
    bucket, now = Bucket(Quota(rate, at_once), 0.0), 0.0
    taken: list[tuple[float, int]] = []
    for pause_s, images, by_stream in steps:
        now += pause_s
        wait_s, take = (
            (bucket.stream_wait_s, bucket.take_for_stream) if by_stream else (bucket.call_wait_s, bucket.take_for_call)
        )
        if not wait_s(images, now):
            take(images, now)
            taken.append((now, images))
        elif not by_stream:
            bucket.promise_s(images, now)
    for first, (began, _) in enumerate(taken):
        for last in range(first, len(taken)):
            seconds, images = taken[last][0] - began, sum(count for _, count in taken[first : last + 1])
            assert images <= (at_once + rate * seconds) * (1 + 1e-6) + 1e-3


@given(rate=rates, at_once=st.integers(50, 1000), steps=steps, piece=st.integers(1, 50), with_stream=st.booleans())
def test_the_time_to_come_back_is_true_whatever_a_stream_takes_meanwhile(
    rate: float, at_once: int, steps: list[tuple[float, int, bool]], piece: int, with_stream: bool
) -> None:
    bucket, now = Bucket(Quota(rate, at_once), 0.0), 0.0
    for pause_s, images, _ in steps:
        now += pause_s
        wait_s = bucket.promise_s(images, now)
        if wait_s > 0.001:
            assert copy(bucket).call_wait_s(images, now + 0.9 * wait_s) > 0
        end = now + wait_s * (1 + 1e-6)
        then = now
        while with_stream and then < end:
            stream_s = bucket.stream_wait_s(piece, then)
            if not stream_s:
                bucket.take_for_stream(piece, then)
            then += stream_s or wait_s / 8
        if with_stream and not bucket.stream_wait_s(piece, end):
            bucket.take_for_stream(piece, end)
        now = end
        assert bucket.call_wait_s(images, now) == 0
        bucket.take_for_call(images, now)


@given(at_once=st.integers(50, 1000), images=st.lists(st.integers(1, 50), max_size=20))
def test_what_is_given_back_is_there_again_and_no_more_than_that(at_once: int, images: list[int]) -> None:
    bucket = Bucket(Quota(1, at_once), 0.0)
    for count in images:
        bucket.take_for_stream(count, 0.0)
    for count in images:
        bucket.give_back(count)
    assert bucket.call_wait_s(at_once, 0.0) == 0
    bucket.give_back(7)
    bucket.take_for_call(at_once, 0.0)
    assert bucket.call_wait_s(1, 0.0) > 0


# --- the quotas of all callers ---


@dataclass
class Clock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A time that passes only while somebody sleeps."""
    clock = Clock()
    monkeypatch.setattr(quotas, "time", clock)
    monkeypatch.setattr(quotas.asyncio, "sleep", clock.sleep)
    return clock


TEN_A_SECOND = Quota(images_per_s=10, images_at_once=5)


async def take(kept: Quotas, caller: str, images: int, *, quota: Quota = TEN_A_SECOND) -> None:
    async with kept.taken(caller, quota, images):
        pass


async def take_in_turn(
    kept: Quotas, caller: str, images: int, *, first: bool = False, quota: Quota = TEN_A_SECOND
) -> None:
    async with kept.taken_in_turn(caller, quota, images, first=first):
        pass


async def refused_s(kept: Quotas, caller: str, images: int, quota: Quota = TEN_A_SECOND) -> float:
    with pytest.raises(QuotaExceeded) as refusal:
        await take(kept, caller, images, quota=quota)
    assert refusal.value.retry_after_s
    return refusal.value.retry_after_s


async def test_who_is_not_patient_is_refused_with_the_time_to_come_back(clock: Clock) -> None:
    kept = Quotas()
    await take(kept, "alice", 5)
    assert await refused_s(kept, "alice", 3) == pytest.approx(0.3)
    clock.now += 0.3
    await take(kept, "alice", 3)
    await take(kept, "bob", 5)


async def test_who_is_patient_is_slowed_down(clock: Clock) -> None:
    kept = Quotas()
    for _ in range(10):
        await take_in_turn(kept, "alice", 2)
    assert clock.now == pytest.approx(1.5)  # 5 at once, 15 more at 10 a second


async def test_a_stream_begins_within_ten_seconds_or_not_at_all(clock: Clock) -> None:
    kept, slow = Quotas(), Quota(images_per_s=0.5, images_at_once=5)
    await take(kept, "alice", 5, quota=slow)
    with pytest.raises(QuotaExceeded) as refusal:
        await take_in_turn(kept, "alice", 6, first=True, quota=slow)
    assert refusal.value.retry_after_s == pytest.approx(12)
    await take_in_turn(kept, "alice", 5, first=True, quota=slow)
    assert clock.now == pytest.approx(10)


async def test_what_is_refused_later_is_given_back_and_what_is_cancelled_while_it_is_made_is_not(clock: Clock) -> None:
    kept = Quotas()
    for _ in range(3):
        with pytest.raises(Unavailable):
            async with kept.taken("alice", TEN_A_SECOND, 5):
                raise Unavailable("draining")
    with pytest.raises(asyncio.CancelledError):
        async with kept.taken("alice", TEN_A_SECOND, 5):
            raise asyncio.CancelledError
    assert await refused_s(kept, "alice", 1) == pytest.approx(0.1)


async def test_who_leaves_while_waiting_has_taken_nothing() -> None:
    kept, slow = Quotas(), Quota(images_per_s=0.001, images_at_once=5)
    await take(kept, "alice", 5, quota=slow)
    waiting = [asyncio.create_task(take_in_turn(kept, "alice", 5, quota=slow)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await refused_s(kept, "alice", 1, slow) <= 1000


async def test_a_quota_that_changes_goes_on_with_what_is_left_and_old_jobs_do_not_bring_the_old_one_back(
    clock: Clock,
) -> None:
    kept, smaller = Quotas(), Quota(images_per_s=1, images_at_once=4)
    kept.follow({"alice": TEN_A_SECOND})
    await take(kept, "alice", 3)
    kept.follow({"alice": smaller})
    await take_in_turn(kept, "alice", 1)  # a stream of before, with the quota of before
    await take(kept, "alice", 1, quota=smaller)
    for quota in (TEN_A_SECOND, smaller, TEN_A_SECOND):
        assert await refused_s(kept, "alice", 1, quota) == pytest.approx(1)
    kept.follow({"alice": Quota(images_per_s=10, images_at_once=50)})
    assert await refused_s(kept, "alice", 1) == pytest.approx(0.1)


async def test_a_stream_whose_pieces_are_larger_than_the_new_quota_goes_on_at_the_new_rate(clock: Clock) -> None:
    kept = Quotas()
    kept.follow({"alice": TEN_A_SECOND})
    await take_in_turn(kept, "alice", 5)
    kept.follow({"alice": Quota(images_per_s=1, images_at_once=2)})
    for _ in range(10):
        await take_in_turn(kept, "alice", 5)
    assert clock.now == pytest.approx(47)  # 50 images more; 3 of the last are missing later


async def test_a_stream_of_a_caller_that_was_removed_goes_on_at_its_last_quota(clock: Clock) -> None:
    kept = Quotas()
    kept.follow({"alice": TEN_A_SECOND})
    await take_in_turn(kept, "alice", 5)
    for _ in range(10):
        kept.follow({"bob": None})
        await take_in_turn(kept, "alice", 2)
    assert clock.now == pytest.approx(2)


async def test_a_quota_may_come_and_go(clock: Clock) -> None:
    kept = Quotas()
    kept.follow({"alice": None})
    await take(kept, "alice", 1000)
    kept.follow({"alice": TEN_A_SECOND})
    await take(kept, "alice", 5)
    assert await refused_s(kept, "alice", 1) == pytest.approx(0.1)
    kept.follow({"alice": None})
    await take(kept, "alice", 1000)


quotas_of_files = st.builds(Quota, st.floats(0.001, 100), st.integers(1, 50))
moves = st.lists(st.tuples(st.floats(0, 10), quotas_of_files, st.integers(1, 50)), max_size=30)


@given(first=quotas_of_files, moves=moves)
def test_however_often_a_quota_changes_nobody_gets_more_than_once_the_start_and_then_the_rates(
    first: Quota, moves: list[tuple[float, Quota, int]]
) -> None:
    bucket, now, taken, allowed = Bucket(first, 0.0), 0.0, 0, float(first.images_at_once)
    for pause_s, following, images in moves:
        now += pause_s
        allowed += pause_s * bucket.quota.images_per_s
        bucket.change(following, now)
        if not bucket.stream_wait_s(images, now):
            bucket.take_for_stream(images, now)
            taken += images
            assert images <= following.images_at_once
        assert taken <= allowed + 1e-3
