"""Overload, simulated: how many computed images are useful, and who gets them.

The bound is what any scheduler could deliver that knows all calls and the pace (best.py).
"""

import statistics
from collections.abc import Callable

import pytest
from best import most_useful
from calls import IMAGES, INFINITY, Asked, even, poisson, together
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import Machine, Outcome, simulate

from progan_service.serving.batching.work import Priority

MACHINE = Machine()  # 16 images in 50 ms, 320 images/s
PER_S = MACHINE.images_per_s()


def latest_s(outcome: Outcome, caller: str) -> float:
    return max(outcome.of[caller].took_s)


def part(outcome: Outcome, caller: str) -> float:
    """The part of its images that a caller got in time."""
    return outcome.of[caller].useful / outcome.of[caller].asked


# --- goodput ---


@pytest.mark.parametrize("load", [1, 4])
@pytest.mark.parametrize("within_s", [0.15, 0.3, 1.0])
@pytest.mark.parametrize("images", IMAGES)
def test_goodput_is_nearly_the_best_at_any_load(images: str, within_s: float, load: int) -> None:
    """Nobody can answer calls of 64 images within 0.15 s: one is tried every second, to measure the pace.

    Where four callers ask for just what can be done, what each may hold costs up to 20 %.
    """
    for number in (1, 4):
        calls = together(*(poisson(load * PER_S / number, 4, IMAGES[images], within_s, f"{n}") for n in range(number)))
        outcome = simulate(calls, MACHINE)
        assert outcome.useful >= (0.8 if (load, number) == (1, 4) else 0.9) * most_useful(calls, MACHINE)
        assert outcome.run <= outcome.useful + 16 * 5
        assert outcome.late == 0


@given(
    images=st.sampled_from(list(IMAGES.values())),
    batches=st.floats(2.5, 40),
    load=st.floats(0.5, 20),
    number=st.integers(1, 5),
    bulk=st.booleans(),
    devices=st.integers(1, 3),
    row_part=st.floats(0.0, 1.0),
)
@settings(max_examples=20)
def test_what_is_let_in_is_in_time_and_nothing_is_computed_in_vain(
    images: tuple[int, ...], batches: float, load: float, number: int, bulk: bool, devices: int, row_part: float
) -> None:
    """At a steady pace, whatever comes. `row_part` of a batch's 50 ms is for its rows, the rest for the batch."""
    machine = Machine(0.05 * (1 - row_part), 0.05 * row_part / 16, devices)
    rate, kinds = load * machine.images_per_s() / number, Priority if bulk else [Priority.INTERACTIVE]
    seconds = min(2.0, 600 * statistics.mean(images) / (rate * number))  # 600 calls
    calls = together(
        *(
            poisson(rate / len(kinds), seconds, images, 0.05 * batches, f"{caller} {kind}", kind)
            for caller in range(number)
            for kind in kinds
        )
    )
    outcome = simulate(calls, machine)
    assert outcome.late == 0
    assert outcome.run <= outcome.useful + (2 + seconds) * 16 * devices  # trials of the pace, one a second


@pytest.mark.parametrize(
    "slowness",
    [
        lambda at: 1 + 0.5 * at / 10,
        lambda at: 2.0 if at % 6 > 3 else 1.0,
        lambda at: 4.0 if at > 5 else 1.0,
        lambda at: 0.25 if at > 5 else 1.0,
    ],
    ids=["drifts", "changes every 3 s", "4 times as slow", "4 times as fast"],
)
def test_goodput_stays_when_the_pace_changes(slowness: Callable[[float], float]) -> None:
    machine = Machine(slowness=slowness, noise=0.1)
    for images in ("4", "16", "mixed"):
        calls = poisson(3 * PER_S, 10, IMAGES[images], 1.0)
        outcome = simulate(calls, machine, until=10)
        assert outcome.useful >= 0.85 * most_useful(calls, machine, until=10), images
        assert outcome.run <= 1.1 * outcome.useful + 64


# --- who gets it ---


@pytest.mark.parametrize(("flood_within_s", "latest"), [(0.15, 0.2), (1.0, 0.1), (5.0, 0.1), (INFINITY, 0.1)])
@pytest.mark.parametrize("flood_rows", [4, 16, 64])
def test_a_small_polite_caller_beside_a_flood_keeps_its_latency(
    flood_rows: int, flood_within_s: float, latest: float
) -> None:
    """It waits for the batch that runs and for its own, 50 ms each; longer if all others are in a hurry.

    Its very first call may be refused: until then the flood was alone.
    """
    flood = even(6 * PER_S / flood_rows, 8, flood_rows, flood_within_s, "flood")
    polite = even(8, 6, 1, 1.0, "polite", begin_s=1.0)
    outcome = simulate(together(flood, polite), MACHINE)
    assert outcome.of["polite"].useful >= len(polite) - 1
    assert latest_s(outcome, "polite") <= latest + 1e-6


def test_a_polite_caller_beside_twenty_floods_keeps_nearly_all_of_its_latency() -> None:
    floods = [poisson(80, 6, [4], 1.0, f"flood {number}") for number in range(20)]
    outcome = simulate(together(*floods, poisson(8, 5, [1], 1.0, "polite", begin_s=1.0)), MACHINE)
    assert part(outcome, "polite") == 1.0
    assert statistics.median(outcome.of["polite"].took_s) <= 0.1


def test_floods_of_different_size_have_equal_parts() -> None:
    calls = together(even(400, 8, 16, 1.0, "twenty times"), even(20.1, 8, 16, 1.0, "once"))
    outcome = simulate(calls, MACHINE)
    assert outcome.of["once"].useful >= 0.9 * outcome.of["twenty times"].useful


def test_a_flood_that_joins_a_flood_with_long_deadlines_has_its_part_at_once() -> None:
    calls = together(even(100, 14, 16, 8.0, "old"), even(100, 4, 16, 1.0, "new", begin_s=10.0))
    outcome = simulate(calls, MACHINE)
    assert outcome.of["new"].useful >= 0.45 * 4 * PER_S


def test_works_without_a_deadline_are_not_starved_by_works_with_one() -> None:
    calls = together(even(200, 8, 16, 1.0, "flood"), even(20, 8, 4, caller="patient"))
    outcome = simulate(calls, MACHINE)
    assert part(outcome, "patient") == 1.0
    assert latest_s(outcome, "patient") <= 0.2


def test_a_lone_call_behind_a_huge_one_waits_about_a_batch() -> None:
    for caller in ("huge", "lone"):
        outcome = simulate([Asked(0.0, 256, 30.0, "huge"), Asked(0.12, 1, 2.0, caller)], MACHINE)
        assert min(outcome.of[caller].took_s) <= 0.1


def test_bulk_has_an_eighth_beside_an_interactive_flood_and_the_rest_beside_a_light_load() -> None:
    bulk = even(100, 8, 16, 1.0, "bulk", Priority.BULK)
    outcome = simulate(together(bulk, even(100, 8, 16, 1.0, "flood")), MACHINE)
    assert 0.08 <= outcome.of["bulk"].useful / outcome.useful <= 0.17
    outcome = simulate(together(bulk, poisson(160, 8, [1], 0.3, "light")), MACHINE)
    assert part(outcome, "light") == 1.0
    assert outcome.useful >= 0.9 * 8 * PER_S
