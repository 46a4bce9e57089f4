"""The growth schedule of the paper, at every boundary."""

from dataclasses import replace

import pytest

from progan_service.config import TrainingConfig
from progan_service.training.schedule import GrowthSchedule, Phase

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
