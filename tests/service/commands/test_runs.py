"""`progan runs`, `plot` and `timelapse`: what is printed and drawn of real runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Progan = Callable[..., Any]


def test_runs_lists_what_is_in_a_directory(progan: Progan, copied_run: Path) -> None:
    (copied_run.parent / "broken").mkdir()
    (copied_run.parent / "broken" / "config.json").write_text("{")
    ended = progan("runs", copied_run.parent)
    headings, row, problem = ended.out.splitlines()
    assert ended.code == 0
    assert headings.split() == ["RUN", "STATE", "KIMG", "IMAGES", "SWD", "IMAGES/S", "SAVED"]
    name, state, kimg, images, rate, *saved = row.split()
    assert (name, state, kimg, images) == (str(copied_run), "done", "0.2/0.2", "8x8")
    assert float(rate) > 0
    assert len(saved) == 2
    assert problem.startswith(f"{copied_run.parent}/broken/config.json: not a run configuration: ")


def test_runs_lists_those_beside_what_cannot_be_read(copied_run: Path) -> None:
    closed = copied_run.parent / "lost+found"  # the administrator's, on a disk of its own
    closed.mkdir(mode=0o000)
    second = shutil.copytree(copied_run, copied_run.parent / "second")
    events = next((second / "tensorboard").iterdir())
    events.chmod(0o000)
    without_rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    script = "from progan_service.commands.entry import main; main()"
    line = [*without_rights, sys.executable, "-c", script, "runs", str(copied_run.parent)]
    ended = subprocess.run(line, capture_output=True, text=True)
    denied = "permission denied; give this user access, or give another path"
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split()[0] for line in ended.stdout.splitlines()[:2]] == ["RUN", str(copied_run)]
    assert ended.stdout.splitlines()[2:] == [f"{events}: {denied}", f"{closed}: {denied}"]


def test_runs_says_that_there_are_none(progan: Progan, tmp_path: Path) -> None:
    assert progan("runs", tmp_path) == (0, f"{tmp_path}: has no runs yet\n", "")
    assert progan("runs", tmp_path / "none") == (
        78,
        "",
        f"progan: {tmp_path}/none: no such directory: give a directory of runs, or a run\n",
    )


def test_plot_draws_several_runs(progan: Progan, finished_run: Path, copied_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "curves.png"
    ended = progan("plot", finished_run, copied_run, "-o", output)
    assert ended == (0, f"{output}: 2 runs, 1600x1298 pixels\n", "")
    assert np.asarray(Image.open(output)).shape == (1298, 1600, 3)


def test_plot_names_a_run_without_ticks(progan: Progan, copied_run: Path, tmp_path: Path) -> None:
    for file in (copied_run / "tensorboard").iterdir():
        file.unlink()
    ended = progan("plot", copied_run, "-o", tmp_path / "curves.png")
    assert ended == (78, "", f"progan: {copied_run}: has no curves yet; they begin with the first tick\n")


def test_timelapse_shows_every_tick_with_its_stage(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "timelapse.webp"
    ended = progan("timelapse", finished_run, "-o", output, "--fps", 4)
    assert ended == (0, f"{output}: 7 ticks, 512x292 pixels\n", "")
    with Image.open(output) as animation:
        duration_ms = 0
        for number in range(animation.n_frames):  # WebP makes one frame of those that are nearly equal
            animation.seek(number)
            frame = np.asarray(animation.convert("RGB"))
            duration_ms += animation.info["duration"]
    assert duration_ms == 7 * 250 + 2000
    last = np.asarray(Image.open(finished_run / "grids" / "fakes-000000224.png"))
    assert np.abs(frame[:256].astype(int) - last).mean() < 8  # WebP keeps colours nearly
    assert frame[256:].min() < 100  # the caption


def test_grids_of_an_earlier_release_are_brought_to_one_size(progan: Progan, copied_run: Path, tmp_path: Path) -> None:
    first = copied_run / "grids" / "fakes-000000032.png"
    with Image.open(first) as grid:
        grid.reduce(8).save(first)
    ended = progan("timelapse", copied_run, "-o", tmp_path / "t.gif")
    assert ended == (0, f"{tmp_path}/t.gif: 7 ticks, 512x292 pixels\n", "")


def test_timelapse_names_a_run_without_grids(progan: Progan, copied_run: Path, tmp_path: Path) -> None:
    for grid in (copied_run / "grids").iterdir():
        grid.unlink()
    ended = progan("timelapse", copied_run, "-o", tmp_path / "t.webp")
    assert ended == (78, "", f"progan: {copied_run}/grids: has no images yet; they come with the first tick\n")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"no picture", "is a text"), (None, "cannot be decoded")]
)
def test_timelapse_names_a_damaged_grid(
    progan: Progan, copied_run: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    grid = copied_run / "grids" / "fakes-000000064.png"
    grid.write_bytes(grid.read_bytes()[:300] if content is None else content)
    ended = progan("timelapse", copied_run, "-o", tmp_path / "t.webp")
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"progan: {grid}: {reason}")
    assert ended.err.endswith("; remove it, and the animation is made without it\n")


@pytest.mark.parametrize("command", ["plot", "timelapse"])
def test_another_suffix_is_refused_before_anything_is_read(progan: Progan, tmp_path: Path, command: str) -> None:
    ended = progan(command, tmp_path / "none", "-o", "out.svg")
    assert ended.code == 78
    assert ended.err.startswith("progan: --output is out.svg: must end in ")


def test_they_need_no_tensorflow(copied_run: Path, tmp_path: Path) -> None:
    script = "import sys; sys.modules['tensorflow'] = None; from progan_service.commands import parser; parser.main()"
    for command in (["runs"], ["plot", "-o", tmp_path / "c.png"], ["timelapse", "-o", tmp_path / "t.webp"]):
        line = [sys.executable, "-c", script, *map(str, command), str(copied_run)]
        ended = subprocess.run(line, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
