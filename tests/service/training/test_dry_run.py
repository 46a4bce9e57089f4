"""Before the first step every stage is tried: what it tells, what it refuses, and that the run notices nothing."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from progan_service.commands.parser import parser
from progan_service.data.dataset import Dataset
from progan_service.errors import ConfigError
from progan_service.training import trainer
from progan_service.training.config import RunConfig
from progan_service.training.dry_run import OutOfMemoryError, Trial, possible_parts, try_stages
from progan_service.training.feed import Feed
from progan_service.training.schedule import GrowthSchedule
from progan_service.training.stage import Phase
from progan_service.training.state import TrainingState
from progan_service.training.step import Batch, Step

HEADER = "stage            batch  parts     memory  images/s          time"
ROW = re.compile(r"(?P<stage>\S.*?) +(?P<batch>\d+) +(?P<parts>\d+) +(\d+\.\d\d GiB) +(\d+\.\d) +(\d+:\d\d:\d\d)")


@contextmanager
def feeding(dataset: Dataset, config: RunConfig) -> Iterator[Feed]:
    feed = Feed(dataset, config, tf.distribute.get_strategy())
    try:
        yield feed
    finally:
        feed.close()


def tried(state: TrainingState, config: RunConfig, dataset: Dataset) -> tuple[list[str], set[tuple[int, bool]]]:
    """Try what is still to come of a run: what was reported, and the stages of the steps."""
    report: list[str] = []
    total_images = round(config.training.total_kimg * 1000)
    stages = GrowthSchedule(config.training, config.network.resolution).stages(state.images_shown, total_images)
    with feeding(dataset, config) as feed:
        steps = try_stages(state, config, stages, feed, auto_batch=False, report=report.append, stopping=lambda: False)
    return report, set(steps)


def rows_of(report: list[str]) -> list[tuple[str, str, str]]:
    """Stage, batch and parts of every row of a table."""
    assert report[0] == HEADER
    assert re.fullmatch(r"expected in all +\d+:\d\d:\d\d", report[-1])
    rows = [ROW.fullmatch(line) for line in report[1:-1]]
    return [(row["stage"], row["batch"], row["parts"]) if row else ("", "", "") for row in rows]


# The table


def test_the_table_of_a_run(finished_run: Path, run_report: list[str]) -> None:
    assert rows_of(run_report[1:6]) == [("4x4", "8", "1"), ("8x8 fading in", "8", "1"), ("8x8", "8", "1")]


@pytest.mark.usefixtures("signals")
def test_a_dry_run_leaves_nothing_behind(faces: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--resolution", "4", "--batch-sizes", "4:8", "--fmap-base", "32", "--fmap-max", "8", "--dry-run"]
    arguments = ["train", "--data", str(faces.directory), "--run", str(tmp_path / "run"), *options]
    given = parser().parse_args(arguments)
    assert given.run(given) == 0
    assert rows_of(capsys.readouterr().out.splitlines()) == [("4x4", "8", "1")]
    assert not (tmp_path / "run").exists()


@pytest.fixture
def without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {(4, False): 16.0, (8, True): 4.0, (8, False): 0.01}  # images a second

    def measured(step: Step, phase: Phase, images: int, feed: Feed) -> Trial:
        return Trial(step, images, 3 * 2**29, speeds[step.stage])

    monkeypatch.setattr("progan_service.training.dry_run._measure", measured)


@pytest.mark.usefixtures("without_measuring")
def test_the_times_are_what_the_speeds_make(run_config: RunConfig, faces: Dataset) -> None:
    report, _ = tried(TrainingState.fresh(run_config), run_config, faces)
    assert report == [  # for 64, 64 and 96 images
        HEADER,
        "4x4                  8      1   1.50 GiB      16.0       0:00:04",
        "8x8 fading in        8      1   1.50 GiB       4.0       0:00:16",
        "8x8                  8      1   1.50 GiB       0.0       2:40:00",
        "expected in all                                          2:40:20",
    ]


@pytest.mark.usefixtures("without_measuring")
@pytest.mark.parametrize(
    ("images_shown", "to_come"),
    [(64, ["4x4", "8x8 fading in", "8x8"]), (72, ["8x8 fading in", "8x8"]), (128, ["8x8"]), (224, [])],
)
def test_a_run_that_goes_on_tries_what_is_still_to_come(
    run_config: RunConfig, faces: Dataset, images_shown: int, to_come: list[str]
) -> None:
    state = TrainingState.fresh(run_config)
    state.images_shown = images_shown
    report, _ = tried(state, run_config, faces)
    assert [stage for stage, _, _ in rows_of(report)] == to_come


def test_the_run_notices_nothing(run_config: RunConfig, faces: Dataset, finished_run: Path) -> None:
    state = TrainingState.fresh(run_config)
    state.restore(finished_run / "checkpoints" / "images-000000192.npz")
    state.images_shown, state.stage = 72, (4, False)  # all of Adam's memory, and two stages still to come
    before = state.arrays()
    _, stages = tried(state, run_config, faces)
    after = state.arrays()
    assert stages == {(8, True), (8, False)}
    assert [name for name in before if before[name].tobytes() != after[name].tobytes()] == []
    assert (before.keys(), state.images_shown, state.stage) == (after.keys(), 72, (4, False))


def test_tensorflow_does_not_warn_of_many_stages(
    run_config: RunConfig, faces: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def step(
        self: Step, batch: Batch, images_shown: tf.Tensor, alpha: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return {"G": alpha}

    monkeypatch.setattr(Step, "_step", step)
    for _ in range(3):
        trainer.dry_run(run_config, faces, report=lambda _: None, stopping=lambda: False)
    assert caplog.messages == []


# Parts


@pytest.mark.parametrize(
    ("batch_size", "group_size", "replicas", "parts"),
    [
        (16, 4, 1, [1, 2, 4]),
        (16, 4, 2, [1, 2]),
        (16, 4, 4, [1]),
        (64, 4, 8, [1, 2]),
        (24, 4, 1, [1, 2]),
        (12, 4, 1, [1]),
        (4, 4, 1, [1]),
        (3, 4, 1, [1]),
        (14, 16, 1, [1]),
        (32, 16, 1, [1, 2]),
        (8, 1, 1, [1, 2, 4, 8]),
        (1, 4, 1, [1]),
    ],
)
def test_parts_are_whole_groups(batch_size: int, group_size: int, replicas: int, parts: list[int]) -> None:
    assert possible_parts(batch_size, group_size, replicas) == parts


@pytest.mark.parametrize(
    ("batches", "group_size", "devices", "refusal"),
    [
        (
            {4: 16, 8: 12},
            4,
            2,
            "--batch-sizes at 8 is 12: 2 devices need a multiple of 8, whole groups of 4 (--mbstd-group-size) each",
        ),
        (
            {4: 16},
            4,
            8,
            "--batch-sizes at 4 is 16: 8 devices need a multiple of 32, whole groups of 4 (--mbstd-group-size) each",
        ),
        (
            {4: 6},
            16,
            4,
            "--batch-sizes at 4 is 6: 4 devices need a multiple of 64, whole groups of 16 (--mbstd-group-size) each",
        ),
    ],
)
def test_a_batch_that_devices_cannot_share_is_refused_before_any_stage_is_tried(
    run_config: RunConfig,
    faces: Dataset,
    batches: dict[int, int],
    group_size: int,
    devices: int,
    refusal: str,
) -> None:
    training = replace(run_config.training, batch_sizes=batches, mbstd_group_size=group_size)
    config = replace(run_config, training=training)
    state = replace(TrainingState.fresh(config), strategy=SimpleNamespace(num_replicas_in_sync=devices))
    stages, report = GrowthSchedule(training, 8).stages(0, 224), list[str]()
    with feeding(faces, config) as feed, pytest.raises(ConfigError) as refused:
        try_stages(state, config, stages, feed, auto_batch=False, report=report.append, stopping=lambda: False)
    assert (str(refused.value), report) == (refusal, [])


# Memory


@contextmanager
def room_for(pixels: int) -> Iterator[None]:
    """On a device that has memory for so many pixels at once. (TensorFlow itself ends the process where a CPU has no
    more, but raises this on a GPU.)"""
    call = Step.__call__

    def call_if_there_is_room(self: Step, *arguments: Any) -> dict[str, tf.Tensor]:
        if self.batch_size // self.pieces * self.stage.resolution**2 > pixels:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return call(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "__call__", call_if_there_is_room)
        yield


@pytest.fixture
def batches_of_16(run_config: RunConfig) -> RunConfig:
    """Four steps of 4x4 and a tick, then 8x8 without any fading."""
    training = replace(run_config.training, batch_sizes={4: 16}, stable_kimg=0.064, fade_kimg=0, tick_kimg={4: 0.064})
    return replace(run_config, training=training)


def trained(run: Path, config: RunConfig, dataset: Dataset) -> tuple[list[str], dict[str, Any]]:
    """The 4x4 of a run with automatic batches: what it reported, and what its checkpoint holds."""
    report: list[str] = []
    assert trainer.train(
        run,
        replace(config, training=replace(config.training, total_kimg=0.064)),
        dataset,
        report=report.append,
        progress=lambda *_: None,
        stopping=lambda: False,
        auto_batch=True,
    )
    with np.load(run / "checkpoints" / "images-000000064.npz") as archive:
        return report, dict(archive)


def losses_of(report: list[str]) -> list[float]:
    return [float(loss) for line in report for loss in re.findall(r"  (?:D|penalty|distance|G) (\S+)", line)]


def test_what_does_not_fit_is_computed_in_parts_and_stays_the_same(
    batches_of_16: RunConfig, faces: Dataset, tmp_path: Path
) -> None:
    roomy_report, roomy = trained(tmp_path / "roomy", batches_of_16, faces)
    with room_for(4 * 4 * 4):  # four images of 4x4
        tight_report, tight = trained(tmp_path / "tight", batches_of_16, faces)

    assert rows_of(roomy_report[1:4]) == [("4x4", "16", "1")]
    assert rows_of(tight_report[1:4]) == [("4x4", "16", "4")]
    assert len(losses_of(tight_report)) == 4
    assert losses_of(tight_report) == pytest.approx(losses_of(roomy_report), abs=2e-3)
    for name, array in roomy.items():
        if array.dtype == np.float32:
            np.testing.assert_allclose(tight[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


def test_every_stage_is_computed_in_as_few_parts_as_it_needs(
    batches_of_16: RunConfig, faces: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(step: Step, phase: Phase, images: int, feed: Feed) -> Trial:
        if step.parts < phase.resolution // 4:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return Trial(step, images, 0, 1.0)

    monkeypatch.setattr("progan_service.training.dry_run._measure", measured)
    report: list[str] = []
    trainer.dry_run(batches_of_16, faces, report=report.append, stopping=lambda: False, auto_batch=True)
    assert rows_of(report) == [("4x4", "16", "1"), ("8x8", "16", "2")]


def test_without_automatic_batches_what_does_not_fit_is_refused(batches_of_16: RunConfig, faces: Dataset) -> None:
    report: list[str] = []
    advice = "8x8 images do not fit into memory, 16 a step: give it a smaller --batch-sizes, or --auto-batch"
    with room_for(16 * 4 * 4), pytest.raises(OutOfMemoryError, match=f"^{advice}$"):
        trainer.dry_run(batches_of_16, faces, report=report.append, stopping=lambda: False)
    assert [line.split("  ")[0] for line in report] == ["stage", "4x4"]


def test_what_does_not_fit_in_the_smallest_parts_is_refused(batches_of_16: RunConfig, faces: Dataset) -> None:
    advice = "4x4 images do not fit into memory, 16 a step: give it a smaller --batch-sizes"
    with room_for(4 * 4 * 4 - 1), pytest.raises(OutOfMemoryError, match=f"^{advice}$"):
        trainer.dry_run(batches_of_16, faces, report=lambda _: None, stopping=lambda: False, auto_batch=True)


def test_a_signal_ends_it_before_the_next_stage(run_config: RunConfig, faces: Dataset) -> None:
    report: list[str] = []
    trainer.dry_run(run_config, faces, report=report.append, stopping=lambda: len(report) > 1)
    assert [line.split("  ")[0] for line in report] == ["stage", "4x4", "stopped after 1 of 3 stages"]
