"""What a run logs, tick by tick."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from progan_service.data.dataset import Dataset
from progan_service.errors import FileError
from progan_service.pictures.grid import save_picture
from progan_service.training.config import RunConfig
from progan_service.training.run.log import OnTick, RunLog, grid_of
from progan_service.training.stage import Phase
from progan_service.training.state import TrainingState

Scalars = Callable[[Path], dict[str, dict[int, float]]]

STABLE_4 = Phase(4, 1.0, 8, 0.001)
FADING_8 = Phase(8, 0.256, 8, 0.001)
STABLE_8 = Phase(8, 1.0, 8, 0.001)
LOSSES = {"D": 1.0, "penalty": 0.5, "distance": 2.0, "G": -1.0, "D_skipped": 0.0, "G_skipped": 0.0}

# Grids


@pytest.mark.parametrize(
    ("count", "size"), [(1, (64, 64)), (2, (128, 64)), (8, (256, 128)), (32, (512, 256)), (5, (192, 128))]
)
def test_a_grid_is_about_twice_as_wide_as_high(count: int, size: tuple[int, int]) -> None:
    assert grid_of(np.zeros((count, 4, 4, 3), np.uint8), 4).size == size


@pytest.mark.parametrize(("resolution", "side"), [(4, 64), (32, 64), (64, 64), (128, 128)])
def test_all_stages_of_a_run_have_grids_of_one_size(resolution: int, side: int) -> None:
    for grown in (4, resolution):
        assert grid_of(np.zeros((1, grown, grown, 1), np.uint8), resolution).size == (side, side)


# Ticks


class Logged:
    """The log of a run that has not taken a step yet, under a clock that stands still. `report` has its lines."""

    def __init__(self, run: Path, config: RunConfig, dataset: Dataset, on_tick: OnTick | None = None) -> None:
        self.report: list[str] = []
        self.state = TrainingState.fresh(config)
        self.log = RunLog(run, config, dataset, self.report.append, 0, on_tick)

    def step(self, **losses: float) -> None:
        self.log.add({name: tf.constant(value) for name, value in (LOSSES | losses).items()})

    def tick(self, images_shown: int, phase: Phase, waited_s: float = 0.0) -> list[str]:
        """Return the lines logged at a tick."""
        self.report.clear()
        self.state.images_shown = images_shown
        self.state.enter(phase)
        self.log.tick(self.state, phase, waited_s)
        return self.report.copy()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Set `clock.now`, in seconds."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("progan_service.training.run.log.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def logged(tmp_path: Path, run_config: RunConfig, faces: Dataset, clock: SimpleNamespace) -> Logged:
    return Logged(tmp_path, replace(run_config, training=replace(run_config.training, total_kimg=60)), faces)


def test_another_logger_is_told_of_each_tick_and_cannot_end_the_run(
    tmp_path: Path, run_config: RunConfig, faces: Dataset
) -> None:
    told = []

    def on_tick(images_shown: int, scalars: dict[str, float], grid: Path) -> None:
        told.append((images_shown, scalars["loss/D"], grid.name, grid.is_file()))
        if len(told) == 2:
            raise ConnectionError("no answer from the logger")

    logged = Logged(tmp_path, run_config, faces, on_tick)
    lines = []
    for images_shown in (8, 16):
        logged.step(D=1.5)
        lines = logged.tick(images_shown, FADING_8)
    assert told == [(8, 1.5, "fakes-000000008.png", True), (16, 1.5, "fakes-000000016.png", True)]
    assert lines[-1] == "warning: --on-tick: ConnectionError: no answer from the logger"


def test_a_status_line_tells_the_means_since_the_last_tick(logged: Logged, clock: SimpleNamespace) -> None:
    logged.step(D=1.0, G=-1.0)
    logged.step(D=2.0, G=-2.0, penalty=0.25)
    clock.now = 140.0
    assert logged.tick(12_340, FADING_8, waited_s=10.0) == [
        "kimg 12.3/60.0  8x8  alpha 0.26  D 1.500  penalty 0.375  distance 2.000  G -1.500  308.5 images/s  input 25%"
    ]
    logged.step(D=5.0, G=0.0)
    clock.now = 141.0
    assert logged.tick(12_348, STABLE_8, waited_s=10.02) == [
        "kimg 12.3/60.0  8x8  alpha 1.00  D 5.000  penalty 0.500  distance 2.000  G 0.000  8.0 images/s  input 2%"
    ]


def test_steps_left_out_are_counted_only_when_there_were_some(logged: Logged, clock: SimpleNamespace) -> None:
    clock.now = 101.0
    logged.step()
    assert "skipped" not in logged.tick(8, STABLE_4)[0]
    for discriminator, generator in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)):
        logged.step(D_skipped=discriminator, G_skipped=generator)
    clock.now = 102.0
    lines = logged.tick(40, STABLE_4)
    assert "  G -1.000  D_skipped 2  G_skipped 1  32.0 images/s" in lines[0]
    assert lines[1:] == [
        "warning: 50% of the discriminator's steps were skipped: gradients not finite",
        "warning: 25% of the generator's steps were skipped: gradients not finite",
    ]


def test_a_generator_that_always_draws_one_picture_is_warned_of(logged: Logged, clock: SimpleNamespace) -> None:
    dense = logged.state.generator_ema.input_block.dense
    dense.kernel.assign(tf.zeros_like(dense.kernel))
    logged.step()
    clock.now = 101.0
    _, warning = logged.tick(8, STABLE_8)
    assert warning.startswith("warning: the generator repeats itself: MS-SSIM 1.000 between its images, 0.")


def test_a_discriminator_that_runs_away_is_warned_of(logged: Logged, clock: SimpleNamespace) -> None:
    for images_shown, distance in ((8, 1.0), (16, 1.5), (24, 2.0), (32, -40.0)):
        logged.step(distance=distance)
        clock.now += 1.0
        lines = logged.tick(images_shown, STABLE_8)
    assert lines[1:] == ["warning: the discriminator runs away: score gap 40.0, usual in this stage 1.5"]


def test_tensorboard_gets_every_figure(
    logged: Logged, clock: SimpleNamespace, tmp_path: Path, scalars_of: Scalars
) -> None:
    logged.step(D=1.0, penalty_norm=0.75)
    logged.step(D=2.0, penalty_norm=0.25)
    clock.now = 110.0
    logged.tick(16, FADING_8, waited_s=5.0)
    logged.log.close()
    scalars = scalars_of(tmp_path)
    figures: dict[str, Any] = {name: values[16] for name, values in scalars.items()}
    for name, value in {
        "loss/D": 1.5,
        "loss/penalty_norm": 0.5,
        "loss/G_skipped": 0.0,
        "schedule/resolution": 8,
        "schedule/alpha": 0.256,
        "schedule/learning_rate": 0.001,
        "speed/images_per_s": 1.6,
        "speed/input_wait_share": 0.5,
    }.items():
        assert figures.pop(name) == pytest.approx(value)
    assert 0 < figures["health/ms_ssim_fakes"] < 1
    assert 0 < figures["health/ms_ssim_reals"] < 1
    kernel = logged.state.discriminator.output_block.dense1.kernel.numpy()
    rms = figures["weight_rms/discriminator/4x4/dense1/kernel"]
    assert rms == pytest.approx(float(np.sqrt((kernel**2).mean())))
    networks = (logged.state.generator, logged.state.discriminator)
    kernels = {weight.path for network in networks for weight in network.weights if weight.path.endswith("kernel")}
    assert {name.removeprefix("weight_rms/") for name in figures if name.startswith("weight_rms/")} == kernels


def test_grids_show_the_same_latents_tick_after_tick(logged: Logged, clock: SimpleNamespace, tmp_path: Path) -> None:
    grids = []
    for images_shown in (8, 16):
        logged.step()
        clock.now += 1.0
        logged.tick(images_shown, STABLE_8)
        grids.append((tmp_path / "grids" / f"fakes-{images_shown:09d}.png").read_bytes())
    assert grids[0] == grids[1]


# Metrics


def test_with_metrics_a_tick_reports_a_table_from_8x8_on(
    tmp_path: Path, run_config: RunConfig, faces: Dataset, clock: SimpleNamespace, scalars_of: Scalars
) -> None:
    logged = Logged(tmp_path, replace(run_config, training=replace(run_config.training, metric_images=16)), faces)
    lines = []
    for images_shown, phase in ((64, STABLE_4), (80, FADING_8), (128, STABLE_8)):
        logged.step()
        clock.now += 1.0
        lines.append(logged.tick(images_shown, phase))
    logged.log.close()
    assert [len(tick) for tick in lines] == [1, 2, 2]
    heading, reals, fakes = lines[2][1].splitlines()
    assert heading.split()[1:] == ["images", "SWDx1e3_8", "SWDx1e3_avg", "MS-SSIM"]
    assert reals.startswith("Reals2 (noise floor)  ")

    scalars = scalars_of(tmp_path)
    for row, line in (("metrics", fakes), ("metrics_reals2", reals)):
        for name, figure in zip(heading.split()[2:], line.split()[-3:], strict=True):
            values = scalars[f"{row}/{name}"]
            assert values.keys() == {80, 128}
            assert values[128] == pytest.approx(float(figure), abs=0.006)
    assert scalars["metrics/SWDx1e3_8"][128] > 2 * scalars["metrics_reals2/SWDx1e3_8"][128]


def test_without_metrics_there_is_no_table(logged: Logged, clock: SimpleNamespace) -> None:
    logged.step()
    clock.now = 101.0
    assert len(logged.tick(128, STABLE_8)) == 1


# Full disks


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


TOO_LARGE = "the file would be larger than the limit on file sizes; raise the limit"


def test_a_log_that_cannot_begin_leaves_nothing(tmp_path: Path, run_config: RunConfig, faces: Dataset) -> None:
    with files_of_at_most(0), pytest.raises(FileError, match=f"^{tmp_path}/tensorboard: {TOO_LARGE}"):
        RunLog(tmp_path, run_config, faces, print, images_shown=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["tensorboard"]


def test_events_that_cannot_be_written_leave_those_before(
    logged: Logged, clock: SimpleNamespace, tmp_path: Path, scalars_of: Scalars
) -> None:
    clock.now = 140.0
    logged.step()
    logged.tick(32, STABLE_4)
    before, grids = scalars_of(tmp_path), sorted((tmp_path / "grids").iterdir())
    clock.now = 180.0
    logged.step()
    (events,) = (tmp_path / "tensorboard").iterdir()
    with (
        files_of_at_most(events.stat().st_size + 100),
        pytest.raises(FileError, match=f"^{tmp_path}/tensorboard: {TOO_LARGE}"),
    ):
        logged.tick(64, STABLE_4)
    assert scalars_of(tmp_path) == before
    assert sorted((tmp_path / "grids").iterdir()) == grids


def test_a_grid_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (8, 16, 16, 3), np.uint8)
    grid = tmp_path / "grids" / "fakes-000000032.png"
    with files_of_at_most(1000), pytest.raises(FileError, match=f"^{grid}: {TOO_LARGE}"):
        save_picture(grid_of(noise, 16), grid)
    assert list(grid.parent.iterdir()) == []
