"""`progan train`: what it refuses before it begins, how it stops and goes on, and a function of the user's own."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from progan_command import configured, refusal

from progan_service.data.dataset import Dataset

SCHEDULE = ["--stable-kimg", "0.064", "--fade-kimg", "0.064", "--tick-kimg", "0.032"]
SCHEDULE += ["--batch-sizes", "8", "--fmap-base", "32", "--fmap-max", "8"]

Progan = Callable[..., Any]  # see tests/service/conftest.py

# What is refused before it begins


def test_train_names_a_missing_dataset(progan: Progan, tmp_path: Path) -> None:
    ended = progan("train", "--data", tmp_path / "none", "--run", tmp_path / "run")
    assert ended == refusal(
        f"{tmp_path}/none: does not exist: give a dataset directory, such as `progan dataset build` makes"
    )


def test_train_refuses_a_directory_without_a_dataset(progan: Progan, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    ended = progan("train", "--data", tmp_path / "photos", "--run", tmp_path / "run")
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"progan: {tmp_path}/photos: no dataset: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--resolution", 16], "--resolution is 16: the dataset has images of 8 at most"),
        (["--resolution", 6], "--resolution is 6: must be a power of two from 4 to 1024"),
        (["--total-kimg", "inf"], "--total-kimg is inf: must be finite"),
        (["--resolution", 0], "--resolution is 0: must be a power of two from 4 to 1024"),
        (["--batch-sizes", "8:16"], "--batch-sizes is {8: 16}: must give a value for resolution 4"),
        (
            ["--preset", "celebahq-1024", "--resolution", 8, "--batch-sizes", 24],
            "--batch-sizes at 4 is 24: must be a multiple of --mbstd-group-size 16, or smaller than it",
        ),
        (["--fmap-base", 2], "--fmap-base is 2: must be at least 4 for 8x8 images"),
        (["--precision", "fp16"], "--precision is 'fp16': must be float32 or bfloat16"),
        (["--d-pool", "max"], "--d-pool is 'max': must be pre_act or post_act"),
        (["--preset", "lsun"], "there is no preset 'lsun': did you mean lsun-256?"),
    ],
)
def test_train_refuses_what_cannot_run(
    progan: Progan, faces: Dataset, tmp_path: Path, arguments: list[object], sentence: str
) -> None:
    assert progan("train", "--data", faces.directory, "--run", tmp_path / "run", *arguments) == refusal(sentence)
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_dataset_that_is_too_small_for_the_preset(
    progan: Progan, faces: Dataset, tmp_path: Path
) -> None:
    ended = progan("train", "--data", faces.directory, "--run", tmp_path / "run", "--preset", "celebahq-1024")
    assert ended == refusal(
        f"preset celebahq-1024 is meant for 1024x1024 images, {faces.directory} has 8x8 at most: "
        f"--resolution 8 trains a smaller one"
    )


def test_train_refuses_labels_that_are_not_there(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    data = tmp_path / "faces"
    shutil.copytree(faces.directory, data)
    (data / "faces-rxx.labels").unlink()
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"label_names": []}))
    ended = progan("train", "--data", data, "--run", tmp_path / "run", "--labels")
    assert ended == refusal(f"{data}: has no labels: add some with `progan dataset label`, or train without --labels")


@pytest.mark.parametrize(("row", "shown"), [([1, 1], "[1. 1.]"), ([0, 0], "[0. 0.]"), ([0.5, 0.5], "[0.5 0.5]")])
def test_train_names_the_first_row_of_labels_that_is_not_one_hot(
    progan: Progan, faces: Dataset, tmp_path: Path, row: list[float], shown: str
) -> None:
    data = tmp_path / "faces"
    shutil.copytree(faces.directory, data)
    labels = np.array(faces.labels)
    labels[[5, 9]] = row
    with (data / "faces-rxx.labels").open("wb") as file:
        np.save(file, labels)
    ended = progan("train", "--data", data, "--run", tmp_path / "run", "--labels")
    assert ended == refusal(
        f"{data}: row 5 of the labels is {shown}: --labels needs one-hot rows, a single 1 among 0s, or attributes "
        "(label_kind in dataset.json)"
    )
    assert configured(data).network.label_size == 0  # without --labels they may be anything


def test_train_takes_any_row_of_attributes_and_names_what_is_none(
    progan: Progan, faces: Dataset, tmp_path: Path
) -> None:
    data = tmp_path / "faces"
    shutil.copytree(faces.directory, data)
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"label_kind": "attributes"}))
    labels = np.array(faces.labels)
    labels[[3, 4]] = [[1, 1], [0, 0]]
    with (data / "faces-rxx.labels").open("wb") as file:
        np.save(file, labels)
    config = configured(data, "--labels")
    assert (config.dataset.label_kind, config.network.label_size) == ("attributes", 2)
    assert configured(data).dataset.label_kind == "classes"  # without --labels there are none

    labels[5] = [-1, 1]
    with (data / "faces-rxx.labels").open("wb") as file:
        np.save(file, labels)
    ended = progan("train", "--data", data, "--run", tmp_path / "run", "--labels")
    assert ended == refusal(f"{data}: row 5 of the labels is [-1.  1.]: --labels needs attributes that are 0 or 1")


def test_train_refuses_what_cannot_run_before_it_imports_tensorflow(faces: Dataset, tmp_path: Path) -> None:
    script = "import sys; sys.modules['tensorflow'] = None; from progan_service.commands import parser; parser.main()"
    command = [sys.executable, "-c", script, "train", "--data", faces.directory, "--run", tmp_path / "run"]
    ended = subprocess.run([*map(str, command), "--labels", "--seed", "-1"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (78, "progan: --seed is -1: must be 0 or more\n")


def test_train_refuses_a_run_begun_with_another_configuration(progan: Progan, faces: Dataset, copied_run: Path) -> None:
    train = ["train", "--data", faces.directory, "--run", copied_run, "--preset", "cpu-small", "--fmap-base", 32]
    ended = progan(*train, "--fmap-max", 8, "--total-kimg", 0.3, "--seed", 1, "--labels", "--gp-weight", 10)
    assert ended == refusal(
        f"{copied_run}: began with other settings: --labels was false, is true; --stable-kimg was 0.064, is 12; "
        "--fade-kimg was 0.064, is 12; --batch-sizes was 8, is 4:32,16:16; --learning-rates was 0.001, is 0.0015; "
        "--ema-halflife-kimg was 10, is 5; --ema-rampup was 0, is 0.05; --seed was 0, is 1; to go on, leave out what "
        "differs (a --preset, too, if the value is from there), or name a new run"
    )


def test_train_leaves_a_directory_of_something_else_alone(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter one")
    ended = progan("train", "--data", faces.directory, "--run", tmp_path)
    assert ended == refusal(f"{tmp_path}: exists and is not a training run; give a new or empty directory")


def test_train_fails_where_it_may_not_write(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = progan("train", "--data", faces.directory, "--run", tmp_path / "file" / "run")
    sentence = "a part of this path is a file, not a directory; give another path"
    assert ended == (1, "", f"progan: {tmp_path}/file/run: {sentence}\n")


# Stopping, going on, and a function of the user's own


def test_train_killed_by_sigterm_saves_and_goes_on(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    train = ["train", "--data", faces.directory, "--run", run, *SCHEDULE]
    with log.open("w") as output:
        command = [Path(sys.executable).parent / "progan", *train, "--total-kimg", 1000]
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "kimg " in log.read_text() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 75, log.read_text()
    finally:
        process.kill()
        process.wait()
    goes_on = f"progan train --run {run} goes on"
    assert log.read_text().endswith(f"stopped by a signal; everything is saved, {goes_on}\n")

    newest = max((run / "checkpoints").iterdir())
    images_shown = int(newest.stem.removeprefix("images-"))
    ended = progan("train", "--run", run, "--total-kimg", (images_shown + 8) / 1000)
    assert (ended.code, ended.err) == (0, "")
    first, *_, last = ended.out.splitlines()
    assert first == f"going on from {newest}"
    assert last == f"done: progan export {run} --store DIR --name NAME makes it servable"


def test_a_run_whose_files_cannot_be_written_says_what_is_saved(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    """A full disk ends a run so; here a file stands in the way of the pictures."""
    run = tmp_path / "run"
    assert progan("train", "--data", faces.directory, "--run", run, *SCHEDULE, "--total-kimg", 0.032).code == 0
    shutil.rmtree(run / "grids")
    (run / "grids").touch()
    ended = progan("train", "--run", run, "--total-kimg", 0.064)
    assert (ended.code, ended.err) == (
        1,
        f"progan: {run}/grids/reals.png: a file of this name, or of a part of it, is in the way; give another path; "
        f"progan train --run {run} then goes on from images-000000032.npz, which is saved\n",
    )
    (run / "grids").unlink()
    ended = progan("train", "--run", run)
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"going on from {run}/checkpoints/images-000000032.npz")


def wait_until(come: Callable[[], bool], within_s: float = 600) -> None:
    give_up = time.monotonic() + within_s
    while not come():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.05)


def test_a_function_of_the_working_directory_is_called_at_each_tick(
    progan: Progan, faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_logger.py").write_text(
        "def tick(images_shown, scalars, grid):\n"
        "    with open('log', 'a') as log:\n"
        "        print(images_shown, 'loss/D' in scalars, grid, file=log)\n"
    )
    sizes = ["--fmap-base", 16, "--fmap-max", 4, "--batch-sizes", 8, "--tick-kimg", 0.008, "--total-kimg", 0.016]
    train = ("train", "--data", faces.directory, "--run", "run", *sizes)

    refused = progan(*train, "--on-tick", "my_logger:tock")
    sentence = "progan: --on-tick is 'my_logger:tock': the module has no function 'tock'\n"
    assert (refused.code, refused.err, Path("run").exists()) == (78, sentence, False)

    assert progan(*train, "--on-tick", "my_logger:tick").code == 0
    assert Path("log").read_text() == "8 True run/grids/fakes-000000008.png\n16 True run/grids/fakes-000000016.png\n"
