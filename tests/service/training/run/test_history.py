"""What a run has been through, read from its directory without TensorFlow."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from progan_service.training.run.history import read_scalars
from progan_service.training.run.progress import is_locked, progress_of, runs_in

TICKS = list(range(32, 225, 32))


def test_the_scalars_of_a_run_are_those_that_tensorboard_reads(finished_run: Path) -> None:
    found = read_scalars(finished_run, {"schedule/resolution", "loss/D", "metrics/SWDx1e3_avg"})
    assert found["schedule/resolution"] == {32: 4, 64: 4, 96: 8, 128: 8, 160: 8, 192: 8, 224: 8}
    assert list(found["loss/D"]) == TICKS
    assert found["metrics/SWDx1e3_avg"] == {}


def test_a_record_that_is_being_written_ends_the_file(copied_run: Path) -> None:
    [events] = (copied_run / "tensorboard").iterdir()
    content, whole = events.read_bytes(), read_scalars(copied_run, {"loss/D"})["loss/D"]
    ticks = []
    for left in range(0, len(content), 997):
        events.write_bytes(content[:left])
        found = read_scalars(copied_run, {"loss/D"})["loss/D"]
        assert found == dict(list(whole.items())[: len(found)])
        ticks.append(len(found))
    assert (ticks[0], ticks[-1], ticks) == (0, 7, sorted(ticks))
    events.write_bytes(b"no events, but more than twelve bytes")
    assert read_scalars(copied_run, {"loss/D"}) == {"loss/D": {}}


def test_of_ticks_that_were_written_again_the_later_file_counts(copied_run: Path) -> None:
    [events] = (copied_run / "tensorboard").iterdir()
    before = read_scalars(copied_run, {"loss/D"})["loss/D"]
    shutil.copy(events, events.with_name("events.out.tfevents.9999999999.vm.1.0.v2"))
    assert read_scalars(copied_run, {"loss/D"})["loss/D"] == before


def test_how_far_a_finished_run_is(finished_run: Path) -> None:
    found = progress_of(finished_run)
    assert (found.images_shown, str(found.stage), found.state) == (224, "8x8", "done")


def test_a_run_without_a_checkpoint_is_at_its_beginning(copied_run: Path) -> None:
    shutil.rmtree(copied_run / "checkpoints")
    found = progress_of(copied_run)
    assert (found.state, found.images_shown, str(found.stage), found.saved_s) == ("stopped", 0, "4x4", None)


HOLDING = """
import sys
from pathlib import Path
from progan_service.training.run.directory import begun_config, claim_run_directory

claim_run_directory(Path(sys.argv[1]), begun_config(Path(sys.argv[1])))
print("mine", flush=True)
sys.stdin.read()
"""


def test_a_run_is_running_as_long_as_a_process_has_it(copied_run: Path) -> None:
    assert not is_locked(copied_run)
    command = [sys.executable, "-c", HOLDING, str(copied_run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        assert is_locked(copied_run)
        assert progress_of(copied_run).state == "running"
        other.kill()
    assert progress_of(copied_run).state == "done"


@pytest.mark.parametrize("name", ["runs", "runs/more"])
def test_runs_are_found_below_a_directory(tmp_path: Path, name: str) -> None:
    for run in ("runs/b", "runs/more/a", "runs/.hidden/c"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.json").touch()
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    expected = {"runs": ["b", "more/a"], "runs/more": ["a"]}[name]
    assert [str(run.relative_to(tmp_path / name)) for run in runs_in(tmp_path / name, [])] == expected
    assert runs_in(tmp_path / "runs" / "b", []) == [tmp_path / "runs" / "b"]
