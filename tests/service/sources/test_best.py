"""The best snapshot of a run is that with the lowest SWD at its tick."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from progan_service.sources.best import Best, NoBestError, best_snapshot
from progan_service.store.store import ModelStore

Progan = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with snapshots after 64, 128, 192 and 224 images, of which nothing is known."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "snapshots").mkdir()
    for shown in (64, 128, 192, 224):
        (tmp_path / "snapshots" / f"images-{shown:09d}.safetensors").touch()
    return tmp_path


def record(run: Path, swd: dict[int, float], resolution: int = 8) -> None:
    """Write what a tick does: SWD by images shown, in one file of events."""
    writer = tf.summary.create_file_writer(str(run / "tensorboard"))
    for shown, distance in swd.items():
        with writer.as_default(step=shown):
            tf.summary.scalar("metrics/SWDx1e3_avg", distance)
            tf.summary.scalar("metrics_reals2/SWDx1e3_avg", 0.5)
            tf.summary.scalar("schedule/resolution", resolution)
    writer.close()


def test_the_lowest_swd_of_the_largest_resolution_wins(run: Path) -> None:
    record(run, {64: 1.0}, resolution=4)
    record(run, {128: 30.0, 160: 2.0, 192: 12.5, 224: 13.0})
    assert best_snapshot(run) == Best(run / "snapshots" / "images-000000192.safetensors", 12.5, 8, 3)


def test_a_tick_that_was_repeated_counts_as_it_was_at_last(run: Path) -> None:
    record(run, {192: 12.5, 224: 13.0})
    (first,) = (run / "tensorboard").iterdir()
    first.rename(first.with_name("events.out.tfevents.1"))
    record(run, {192: 15.0})
    assert best_snapshot(run).path.name == "images-000000224.safetensors"


def test_events_that_a_kill_has_cut_count_up_to_there(run: Path) -> None:
    record(run, {192: 12.5, 224: 13.0})
    (events,) = (run / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-5])
    assert best_snapshot(run).path.name == "images-000000192.safetensors"


def test_a_run_without_metrics_says_so(finished_run: Path, progan: Progan, tmp_path: Path) -> None:
    ended = progan("export", finished_run, "--best", "--store", tmp_path / "store", "--name", "faces")
    assert ended == (
        78,
        "",
        f"progan: {finished_run}: has no SWD at any tick: only ticks with --metric-images and images of 8x8 or more "
        f"have it; measure its snapshots by `progan evaluate {finished_run}/snapshots/*.safetensors --data DIR`, and "
        "export one of them\n",
    )
    assert not (tmp_path / "store").exists()


def test_metrics_of_ticks_without_snapshots_choose_none(run: Path) -> None:
    record(run, {160: 1.0})
    with pytest.raises(NoBestError, match=f"^{run}: has no snapshot of a tick with SWD; export the run"):
        best_snapshot(run)


def test_only_a_run_has_a_best_snapshot(tmp_path: Path) -> None:
    with pytest.raises(NoBestError, match=rf"^{tmp_path}: not a training run \(no config.json\); --best chooses among"):
        best_snapshot(tmp_path)


def test_export_takes_the_best_snapshot(copied_run: Path, progan: Progan, tmp_path: Path) -> None:
    for events in (copied_run / "tensorboard").iterdir():
        events.unlink()
    record(copied_run, {160: 9.5, 192: 10.25, 224: 11.0})
    ended = progan("export", copied_run, "--best", "--store", tmp_path / "store", "--name", "faces")
    assert (ended.code, ended.err) == (0, "")
    best = copied_run / "snapshots" / "images-000000160.safetensors"
    assert ended.out.splitlines()[0] == f"{best}: the best SWD, 9.50, of the snapshots of 8x8 with SWD: 3"
    assert ModelStore(tmp_path / "store").metadata("faces", 1).provenance["images_shown"] == 160


def test_the_best_snapshot_is_found_without_a_warning(run: Path) -> None:
    record(run, {192: 12.5, 224: 13.0})
    find = (
        "from pathlib import Path; from progan_service.host.tensorflow import import_tensorflow; import_tensorflow(); "
        f"from progan_service.sources.best import best_snapshot; print(best_snapshot(Path({str(run)!r})).swd)"
    )
    ended = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("12.5\n", "")
