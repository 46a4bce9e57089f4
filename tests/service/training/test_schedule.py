"""The growth schedule of the paper, at every boundary."""

from dataclasses import replace

import pytest

from progan_service.training.config import TrainingConfig
from progan_service.training.schedule import GrowthSchedule, of_resolution
from progan_service.training.stage import Phase

PAPER = GrowthSchedule(
    TrainingConfig(
        stable_kimg=600,
        fade_kimg=600,
        batch_sizes={4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
        learning_rates={4: 0.001, 1024: 0.0015},
    ),
    resolution=1024,
)


@pytest.mark.parametrize(
    ("resolution", "fade_starts_kimg", "full_from_kimg"),
    [
        (8, 600, 1200),
        (16, 1800, 2400),
        (32, 3000, 3600),
        (64, 4200, 4800),
        (128, 5400, 6000),
        (256, 6600, 7200),
        (512, 7800, 8400),
        (1024, 9000, 9600),
    ],
)
def test_every_boundary(resolution: int, fade_starts_kimg: int, full_from_kimg: int) -> None:
    before, after = PAPER.at(fade_starts_kimg * 1000), PAPER.at(fade_starts_kimg * 1000 + 1)
    assert (before.resolution, before.alpha, before.fading) == (resolution // 2, 1.0, False)
    assert (after.resolution, after.fading) == (resolution, True)
    assert after.alpha == pytest.approx(1 / 600_000)

    almost, full = PAPER.at(full_from_kimg * 1000 - 1), PAPER.at(full_from_kimg * 1000)
    assert (almost.resolution, almost.fading) == (resolution, True)
    assert almost.alpha == pytest.approx(1 - 1 / 600_000)
    assert (full.resolution, full.alpha, full.fading) == (resolution, 1.0, False)


@pytest.mark.parametrize(
    ("kimg", "resolution", "alpha"),
    [(0, 4, 1.0), (600, 4, 1.0), (750, 8, 0.25), (900, 8, 0.5), (1500, 8, 1.0), (2250, 16, 0.75), (9300, 1024, 0.5)],
)
def test_alpha_grows_evenly(kimg: int, resolution: int, alpha: float) -> None:
    phase = PAPER.at(kimg * 1000)
    assert phase.resolution == resolution
    assert phase.alpha == pytest.approx(alpha)


@pytest.mark.parametrize("kimg", [9600, 12_000, 100_000])
def test_the_final_resolution_runs_to_the_end(kimg: int) -> None:
    assert PAPER.at(kimg * 1000) == Phase(1024, 1.0, batch_size=4, learning_rate=0.0015)


def test_batches_and_learning_rates_change_where_a_fade_starts() -> None:
    resolutions = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    stages = [PAPER.at(1_200_000 * stage - 599_999) for stage in range(1, 9)]
    phases = [PAPER.at(0), *stages]
    assert [phase.resolution for phase in phases] == resolutions
    assert [phase.batch_size for phase in phases] == [128, 128, 128, 64, 32, 16, 8, 4, 4]
    assert [phase.learning_rate for phase in phases] == [0.001] * 8 + [0.0015]


def test_the_level_of_detail_counts_the_doublings_that_are_missing() -> None:
    assert [PAPER.level_of_detail(kimg * 1000) for kimg in (0, 600, 900, 1200, 9300, 9600)] == [8, 8, 7.5, 7, 0.5, 0]


def test_a_network_of_four_pixels_has_nothing_to_grow_into() -> None:
    schedule = replace(PAPER, resolution=4)
    assert {(schedule.at(n).resolution, schedule.at(n).alpha) for n in (0, 900_000, 5_000_000)} == {(4, 1.0)}


def test_without_a_fade_the_next_resolution_is_there_at_once() -> None:
    schedule = GrowthSchedule(TrainingConfig(stable_kimg=1, fade_kimg=0), resolution=16)
    phases = [schedule.at(images) for images in (999, 1000, 1999, 2000, 9000)]
    assert [phase.resolution for phase in phases] == [4, 8, 8, 16, 16]
    assert not any(phase.fading for phase in phases)


# Stages


def test_the_stages_of_the_paper() -> None:
    # A fade starts strictly after its boundary: the point of the boundary belongs to the stage before.
    stages = PAPER.stages(0, 12_000_000)
    assert [(phase.resolution, phase.fading, images) for phase, images in stages] == [
        (4, False, 600_001),
        *(
            (resolution, fading, 599_999 if fading else 600_001)
            for resolution in (8, 16, 32, 64, 128, 256, 512)
            for fading in (True, False)
        ),
        (1024, True, 599_999),
        (1024, False, 2_400_000),
    ]


@pytest.mark.parametrize(("resolution", "steps"), [(128, 492_188), (256, 829_688), (1024, 1_354_688)])
def test_the_steps_of_the_original(resolution: int, steps: int) -> None:
    stages = replace(PAPER, resolution=resolution).stages(0, 12_000_000)
    assert sum(images / phase.batch_size for phase, images in stages) == pytest.approx(steps, abs=1)


def test_a_stage_is_met_with_its_own_batch_and_learning_rate() -> None:
    first = {(phase.resolution, phase.fading): phase for phase, _ in PAPER.stages(0, 12_000_000)}
    assert first[4, False] == Phase(4, 1.0, 128, 0.001)
    assert first[32, True] == Phase(32, pytest.approx(1 / 600_000), 64, 0.001)
    assert first[1024, False] == Phase(1024, 1.0, 4, 0.0015)


@pytest.mark.parametrize(
    ("start", "end", "stages"),
    [
        (0, 1, [(4, 1)]),
        (600_000, 600_000, []),
        (599_000, 601_000, [(4, 1_001), (8, 999)]),
        (600_000, 600_008, [(4, 1), (8, 7)]),
        (600_001, 600_008, [(8, 7)]),
        (900_000, 1_500_000, [(8, 300_000), (8, 300_000)]),
        (1_200_000, 1_200_008, [(8, 8)]),
        (1_800_001, 2_400_000, [(16, 599_999)]),
        (9_500_000, 9_700_000, [(1024, 100_000), (1024, 100_000)]),
        (12_000_000, 99_000_000, [(1024, 87_000_000)]),
    ],
)
def test_stages_from_anywhere_to_anywhere(start: int, end: int, stages: list[tuple[int, int]]) -> None:
    assert [(phase.resolution, images) for phase, images in PAPER.stages(start, end)] == stages


@pytest.mark.parametrize(("stable", "fade"), [(5, 7), (1, 1), (3, 1), (1, 3), (4, 0)])
def test_the_stages_are_those_that_the_steps_go_through(stable: int, fade: int) -> None:
    schedule = GrowthSchedule(TrainingConfig(stable_kimg=stable / 1000, fade_kimg=fade / 1000), resolution=16)
    for start in range(40):
        phases = [schedule.at(images_shown) for images_shown in range(start, 50)]
        stepped = [phase for phase, images in schedule.stages(start, 50) for _ in range(images)]
        assert [(p.resolution, p.fading) for p in stepped] == [(p.resolution, p.fading) for p in phases]


def test_stages_without_fades() -> None:
    schedule = GrowthSchedule(TrainingConfig(stable_kimg=1, fade_kimg=0), resolution=16)
    assert [(phase.resolution, phase.fading, images) for phase, images in schedule.stages(0, 9000)] == [
        (4, False, 1000),
        (8, False, 1000),
        (16, False, 7000),
    ]


def test_a_network_of_four_pixels_has_one_stage() -> None:
    assert [images for _, images in replace(PAPER, resolution=4).stages(0, 5_000_000)] == [5_000_000]


# The ramp of the learning rate


def test_the_learning_rate_rises_evenly_and_stays() -> None:
    schedule = GrowthSchedule(TrainingConfig(learning_rate_ramp_kimg=40, batch_sizes={4: 16}), resolution=8)
    rates = {n: schedule.at(n).learning_rate for n in (0, 16, 19_984, 39_968, 39_984, 40_000, 5_000_000)}
    assert rates == pytest.approx(
        {0: 4e-7, 16: 8e-7, 19_984: 0.0005, 39_968: 0.0009996, 39_984: 0.001, 40_000: 0.001, 5_000_000: 0.001}
    )


def test_without_a_ramp_the_learning_rate_is_there_from_the_first_step() -> None:
    assert GrowthSchedule(TrainingConfig(), resolution=8).at(0).learning_rate == 0.001


def test_a_value_holds_for_higher_resolutions_until_the_next() -> None:
    table = {4: 128, 32: 64, 128: 16}
    assert [of_resolution(table, r) for r in (4, 8, 16, 32, 64, 128, 1024)] == [128, 128, 128, 64, 64, 16, 16]


# A run that begins above 4x4


def test_the_stages_below_the_initial_resolution_are_left_out() -> None:
    schedule = GrowthSchedule(replace(PAPER.config, initial_resolution=256), resolution=1024)
    stages = [(str(phase.stage), images) for phase, images in schedule.stages(0, 3_000_000)]
    assert stages == [
        ("256x256", 600_001),
        ("512x512 fading in", 599_999),
        ("512x512", 600_001),
        ("1024x1024 fading in", 599_999),
        ("1024x1024", 600_000),
    ]
    assert schedule.full_kimg == 2400


def test_a_run_that_begins_at_its_final_resolution_never_grows() -> None:
    schedule = GrowthSchedule(replace(PAPER.config, initial_resolution=1024), resolution=1024)
    assert schedule.at(0) == schedule.at(5_000_000) == Phase(1024, 1.0, batch_size=4, learning_rate=0.0015)
    assert schedule.full_kimg == 0


# The learning rate at the end


@pytest.mark.parametrize(("kimg", "rate"), [(0, 0.001), (60, 0.001), (80, 0.0005), (99, 0.000025), (130, 2.5e-8)])
def test_the_learning_rate_falls_at_the_end_of_the_run_but_never_to_0(kimg: int, rate: float) -> None:
    config = TrainingConfig(total_kimg=100, learning_rate_fall_kimg=40, initial_resolution=64)
    assert GrowthSchedule(config, resolution=64).at(kimg * 1000).learning_rate == pytest.approx(rate)
