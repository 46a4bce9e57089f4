"""What a run is warned of, a tick at a time."""

import pytest

from progan_service.training.run.collapse_guard import CollapseGuard

HEALTHY = {"distance": 2.0, "D_skipped": 0.0, "G_skipped": 0.0}
STABLE_4, FADING_8 = (4, False), (8, True)


def watch(*gaps: float, stage: tuple[int, bool] = STABLE_4, guard: CollapseGuard | None = None) -> list[list[str]]:
    """What is warned of at ticks with these score gaps."""
    guard = guard or CollapseGuard()
    return [guard.warnings(stage, HEALTHY | {"distance": gap}, 0.3, 0.3) for gap in gaps]


def test_a_healthy_run_is_left_alone() -> None:
    guard = CollapseGuard()
    for stage in (STABLE_4, FADING_8, (8, False)):
        for gap in (5.0, 2.0, 1.0, 3.0, -0.5, 4.0, 9.0):
            assert guard.warnings(stage, HEALTHY | {"distance": gap}, 0.35, 0.3) == []


@pytest.mark.parametrize(("fakes", "reals"), [(0.66, 0.3), (1.0, 0.3), (0.91, 0.8)])
def test_images_with_less_than_half_of_the_variety_of_the_reals(fakes: float, reals: float) -> None:
    assert CollapseGuard().warnings(STABLE_4, HEALTHY, fakes, reals) == [
        f"the generator repeats itself: MS-SSIM {fakes:.3f} between its images, {reals:.3f} between real ones"
    ]


@pytest.mark.parametrize(("fakes", "reals"), [(0.64, 0.3), (0.1, 0.3), (0.89, 0.8), (1.0, 1.0)])
def test_images_with_half_of_the_variety_are_various_enough(fakes: float, reals: float) -> None:
    assert CollapseGuard().warnings(STABLE_4, HEALTHY, fakes, reals) == []


@pytest.mark.parametrize("gap", [20.1, -20.1])
def test_a_score_gap_beyond_ten_times_the_usual_one(gap: float) -> None:
    assert watch(1.0, 2.0, -3.0, gap)[-1] == ["the discriminator runs away: score gap 20.1, usual in this stage 2.0"]


def test_a_score_gap_of_ten_times_the_usual_one_is_none_to_speak_of() -> None:
    assert watch(1.0, 2.0, -3.0, 20.0) == [[]] * 4


def test_what_is_usual_takes_three_ticks_to_tell() -> None:
    assert watch(1.0, 1.0, 1000.0) == [[]] * 3
    assert watch(1.0, 1.0, 1.0, 1000.0)[-1] != []


def test_one_wild_tick_does_not_become_usual() -> None:
    ticks = watch(1.0, 1.0, 1.0, 1000.0, 1.0, 1000.0)
    assert [bool(warnings) for warnings in ticks] == [False, False, False, True, False, True]


def test_what_is_usual_is_learned_again_in_every_stage() -> None:
    guard = CollapseGuard()
    watch(1.0, 1.0, 1.0, guard=guard)
    assert watch(100.0, 100.0, 100.0, 120.0, stage=FADING_8, guard=guard) == [[]] * 4
    assert watch(1.0, stage=FADING_8, guard=guard) == [[]]
    assert watch(1100.0, stage=FADING_8, guard=guard) == [
        ["the discriminator runs away: score gap 1100.0, usual in this stage 100.0"]
    ]


@pytest.mark.parametrize(("name", "network"), [("D_skipped", "discriminator"), ("G_skipped", "generator")])
def test_steps_left_out(name: str, network: str) -> None:
    assert CollapseGuard().warnings(STABLE_4, HEALTHY | {name: 0.1}, 0.3, 0.3) == []
    assert CollapseGuard().warnings(STABLE_4, HEALTHY | {name: 0.25}, 0.3, 0.3) == [
        f"25% of the {network}'s steps were skipped: gradients not finite"
    ]


def test_all_that_goes_wrong_is_reported_at_once() -> None:
    guard = CollapseGuard()
    watch(1.0, 1.0, 1.0, guard=guard)
    warnings = guard.warnings(STABLE_4, {"distance": 50.0, "D_skipped": 1.0, "G_skipped": 0.5}, 0.9, 0.3)
    assert [warning.split(":")[0] for warning in warnings] == [
        "the generator repeats itself",
        "the discriminator runs away",
        "100% of the discriminator's steps were skipped",
        "50% of the generator's steps were skipped",
    ]
