"""The `progan` command: what it prints, and the exit codes that orchestrators rely on."""

import argparse
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import numpy as np
import pytest
from PIL import Image

import progan_service
from progan_service.commands import dataset, draw, evaluate, export, models, runs, serve, train
from progan_service.commands.parser import parser
from progan_service.data.dataset import Dataset
from progan_service.export.trained import TrainedGenerator
from progan_service.export.weights_file import save_weights
from progan_service.label_kind import LabelKind
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.settings.manual import given_settings
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore
from progan_service.training.config import MAY_CHANGE, DatasetConfig, RunConfig, SetupConfig, TrainingConfig
from progan_service.training.presets import preset_names
from progan_service.training.run.configuration import Given, config_of

TRAIN = ["train", "--data", "d", "--run", "r"]
SCHEDULE = ["--stable-kimg", "0.064", "--fade-kimg", "0.064", "--tick-kimg", "0.032"]
SCHEDULE += ["--batch-sizes", "8", "--fmap-base", "32", "--fmap-max", "8"]


Progan = Callable[..., Any]  # see conftest.py


BY_RESOLUTION = "must be a whole number, or one by resolution such as 4:32,16:16"
A_FILE_IN_THE_PATH = "a part of this path is a file, not a directory; give another path"


def refusal(sentence: str) -> tuple[int, str, str]:
    """Bad configuration or data: running again will not help."""
    return 78, "", f"progan: {sentence}\n"


# Help and usage


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["dataset"],
        ["dataset", "build"],
        ["dataset", "demo"],
        ["train"],
        ["presets"],
        ["runs"],
        ["plot"],
        ["timelapse"],
        ["grid"],
        ["walk"],
        ["export"],
        ["weights"],
        ["models"],
        ["models", "pin"],
        ["models", "default"],
        ["evaluate"],
        ["completion"],
    ],
)
def test_every_command_has_help(progan: Progan, command: list[str]) -> None:
    ended = progan(*command, "--help")
    assert ended.code == 0
    assert ended.out.startswith("usage: " + " ".join(["progan", *command]))


@pytest.mark.parametrize(
    "command",
    ["train --run r --data", "train --data d --run", "serve --store", "models --store", "dataset demo", "weights run"],
)
def test_an_empty_path_is_wrong_usage(progan: Progan, command: str) -> None:
    ended = progan(*command.split(), "")
    assert ended.code == 2
    assert ended.err.endswith("''\n")


def test_a_directory_that_tensorflow_cannot_name_is_refused(tmp_path: Path) -> None:
    program, data, run = Path(sys.executable).with_name("progan"), tmp_path / "data", tmp_path / "caf\udce9"
    subprocess.run([program, "dataset", "demo", data, "--count", "8", "--resolution", "4"], check=True)
    ended = subprocess.run([program, "train", "--data", data, "--run", run], capture_output=True)
    sentence = f"{tmp_path}/caf\\xe9: the name is not UTF-8, as TensorFlow needs it; give another path"
    assert ended.returncode == 78
    assert ended.stderr.splitlines()[-1].decode() == f"progan: {sentence}"
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize(
    ("command", "usage", "sentence"),
    [
        ("serve --prot 9000", "progan serve [--config FILE]", "there is no option --prot; did you mean --port?"),
        (
            "serve --max_images=7",
            "progan serve [--config FILE]",
            "there is no option --max_images; did you mean --max-images?",
        ),
        ("train --dta faces", "progan train --run DIR", "there is no option --dta; did you mean --data?"),
        ("models --sotre s prune", "progan models [-h]", "there is no option --sotre; did you mean --store?"),
        ("models prune --sotre s", "progan models prune [-h]", "there is no option --sotre; did you mean --store?"),
        ("presets --xyzzy", "progan presets [-h]", "there is no option --xyzzy"),
        ("presets lsun-256 extra", "progan presets [-h]", "unrecognized arguments: extra"),
        ("--verison", "progan [-h]", "there is no option --verison; did you mean --version?"),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest_one(
    progan: Progan, command: str, usage: str, sentence: str
) -> None:
    ended = progan(*command.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"usage: {usage}")
    assert ended.err.endswith(f": error: {sentence}\n")


@pytest.mark.parametrize("command", ["presets", "presets lsun-256", "models", "completion bash"])
def test_a_reader_that_has_left_ends_the_command_quietly(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = Path(sys.executable).with_name("progan")
    ended = subprocess.run([program, *command.split()], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")  # as a program that SIGPIPE ends, in a shell


def test_the_help_tells_the_exit_codes(progan: Progan) -> None:
    assert progan("--help").out.endswith(
        "exit codes:\n"
        "  0   done\n"
        "  1   failed: fix what the message names, then run again\n"
        "  2   wrong usage\n"
        "  75  stopped by a signal, or a worker was lost or missing: run again to go on\n"
        "  78  bad configuration or data: running again will not help\n"
        "  130 ended by Ctrl-C\n"
        "  141 the reader of the output has left\n"
        "  143 ended by SIGTERM\n"
    )


def test_the_version(progan: Progan) -> None:
    assert progan("--version") == (0, f"progan {progan_service.__version__}\n", "")
    assert progan_service.__version__ == metadata.version("progan-service")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_for_a_shell(progan: Progan, shell: str) -> None:
    ended = progan("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert all(word in ended.out for word in ("evaluate", "lame-duck-s", "gp-weight"))


COMPLETE = """
source {script}
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_shtab_progan
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(("words", "completed"), [("progan ev", "evaluate"), ("progan serve --lame", "--lame-duck-s")])
def test_bash_completes_commands_and_options(progan: Progan, tmp_path: Path, words: str, completed: str) -> None:
    script = tmp_path / "script.bash"
    script.write_text(progan("completion", "bash").out)
    command = ["bash", "-c", COMPLETE.format(script=script, words=words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@pytest.mark.parametrize(
    ("module", "function", "line"),
    [
        (serve, "serve", "serve --port 0"),
        (dataset, "build_dataset", "dataset build a b --resolution 8"),
        (dataset, "label_dataset", "dataset label a --labels folders"),
        (dataset, "draw_dataset", "dataset demo a"),
        (train, "train", "train --data d --run r"),
        (train, "presets", "presets"),
        (runs, "list_runs", "runs"),
        (runs, "plot", "plot r -o c.png"),
        (runs, "timelapse", "timelapse r -o t.webp"),
        (draw, "grid", "grid r -o g.png"),
        (draw, "draw_walk", "walk r -o w.webp"),
        (evaluate, "evaluate", "evaluate r --data d"),
        (export, "export", "export r --store s --name n"),
        (export, "weights", "weights r w.npz"),
        (models, "list_models", "models"),
        (models, "verify", "models verify"),
        (models, "pin", "models pin --store s m 1"),
        (models, "label", "models label --store s m canary 1"),
        (models, "unlabel", "models unlabel --store s m canary"),
        (models, "default", "models default --store s m"),
        (models, "prune", "models prune --store s"),
    ],
)
def test_a_command_is_a_function_with_typed_keywords(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, line: str
) -> None:
    signature = inspect.signature(getattr(module, function))
    assert {parameter.kind for parameter in signature.parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert argparse.Namespace not in get_type_hints(getattr(module, function)).values()
    monkeypatch.setattr(module, function, lambda **values: values)
    arguments = parser().parse_args(line.split())
    assert arguments.run(arguments).keys() == signature.parameters.keys()


def test_help_takes_no_tensorflow() -> None:
    script = (
        "import sys; from progan_service.commands import parser; "
        "parser.parser().format_help(); print('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["train", "--data", "d"], "the following arguments are required: --run"),
        ([*TRAIN, "--fmap-base", "big"], "argument --fmap-base: must be a whole number; got 'big'"),
        ([*TRAIN, "--fade-kimg", "long"], "argument --fade-kimg: must be a number; got 'long'"),
        ([*TRAIN, "--batch-sizes", "1.5"], f"argument --batch-sizes: {BY_RESOLUTION}; got '1.5'"),
        ([*TRAIN, "--batch-sizes", "4:32,16"], f"argument --batch-sizes: {BY_RESOLUTION}; got '4:32,16'"),
        ([*TRAIN, "--batch-sizes", "4:8,4:9"], f"argument --batch-sizes: {BY_RESOLUTION}; got '4:8,4:9'"),
        (["dataset", "build", "a", "b", "--resolution", "big"], "argument --resolution: invalid int value: 'big'"),
    ],
)
def test_wrong_usage_ends_with_2(progan: Progan, arguments: list[str], complaint: str) -> None:
    ended = progan(*arguments)
    assert ended.code == 2
    assert complaint in ended.err


# dataset


def test_dataset_build_tells_what_it_made(progan: Progan, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(photos / f"{number}.png")
    (photos / "README.md").write_text("three pictures")
    ended = progan("dataset", "build", photos, tmp_path / "set", "--resolution", 8)
    assert ended == (0, f"{tmp_path}/set: 3 images, 4x4 to 8x8\n  1 left out: is a text\n", "")
    assert Dataset.open(tmp_path / "set").count == 3


def test_dataset_demo_tells_what_it_drew(progan: Progan, tmp_path: Path) -> None:
    ended = progan("dataset", "demo", tmp_path / "faces", "--resolution", 8, "--count", 4, "--label", "smile")
    assert ended == (0, f"{tmp_path}/faces: 4 faces, 4x4 to 8x8\n", "")
    assert Dataset.open(tmp_path / "faces").labels is not None


def test_dataset_build_names_a_missing_folder(progan: Progan, tmp_path: Path) -> None:
    ended = progan("dataset", "build", tmp_path / "none", tmp_path / "set", "--resolution", 8)
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"progan: {tmp_path}/none: ")


def test_dataset_build_takes_labels_or_says_where_they_may_be_and_label_adds_them(
    progan: Progan, tmp_path: Path
) -> None:
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    build = ["dataset", "build", tmp_path / "photos", tmp_path / "set", "--resolution", 4]
    found = "4 images, 4x4 to 4x4"
    hint = "2 folders look like classes (cat, dog): --labels folders would use them"
    assert progan(*build) == (0, f"{tmp_path}/set: {found}\n  {hint}\n", "")
    labels = "2 classes: cat (2), dog (2)"
    assert progan("dataset", "label", tmp_path / "set", "--labels", "folders") == (0, f"{tmp_path}/set: {labels}\n", "")
    shutil.rmtree(tmp_path / "set")
    assert progan(*build, "--labels", "folders") == (0, f"{tmp_path}/set: {found}\n  {labels}\n", "")
    assert Dataset.open(tmp_path / "set").label_names == ("cat", "dog")


def test_dataset_build_names_a_corrupt_image_and_leaves_nothing(progan: Progan, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(photos / "whole.png")
    (photos / "broken.png").write_bytes((photos / "whole.png").read_bytes()[:200])
    ended = progan("dataset", "build", photos, tmp_path / "set", "--resolution", 8)
    assert (ended.code, ended.out) == (78, "")
    assert "broken.png" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_dataset_demo_refuses_an_existing_directory(progan: Progan, tmp_path: Path) -> None:
    ended = progan("dataset", "demo", tmp_path)
    assert ended == refusal(f"{tmp_path}: already exists: give the name of a new directory")


# train


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
    assert ended == refusal(f"{data}: has no labels: train it without --labels")


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
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"progan: {tmp_path}/file/run: {A_FILE_IN_THE_PATH}\n"


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


def wait_until(come: Callable[[], bool], within_s: float = 600) -> None:
    give_up = time.monotonic() + within_s
    while not come():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.05)


# train: its settings


def configured(data: Path, *options: object) -> RunConfig:
    """What `progan train` with these options would train on the dataset."""
    given = parser().parse_args(["train", "--data", str(data), "--run", "r", *map(str, options)])
    settings = given_settings(given, NetworkConfig, TrainingConfig)
    what = Given(given.preset, settings, given.labels, given.auto_batch, given.deterministic)
    return config_of(Path("r"), None, Dataset.open(data), what)


def train_help() -> str:
    [subparsers] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    text: str = subparsers.choices["train"].format_help()
    return text


VALUES = {  # other than the defaults, as they are given and as they are kept
    "fmap_base": ("64", 64),
    "fmap_max": ("32", 32),
    "latent_size": ("24", 24),
    "d_pool": ("post_act", "post_act"),
    "seed": ("7", 7),
    "stable_kimg": ("1.5", 1.5),
    "fade_kimg": ("0", 0),
    "initial_resolution": ("8", 8),
    "learning_rate_fall_kimg": ("5", 5.0),
    "total_kimg": ("20", 20),
    "batch_sizes": ("8", {4: 8}),
    "learning_rates": ("4:0.002,8:1e-3", {4: 0.002, 8: 0.001}),
    "learning_rate_ramp_kimg": ("40", 40),
    "adam_beta2": ("0.9", 0.9),
    "ema_halflife_kimg": ("2.5", 2.5),
    "ema_rampup": ("0.1", 0.1),
    "gp_weight": ("1", 1),
    "gp_target": ("750", 750),
    "gp_reference": ("native", "native"),
    "drift_weight": ("0", 0),
    "mbstd_group_size": ("2", 2),
    "mirror": (None, True),
    "precision": ("bfloat16", "bfloat16"),
    "fused_kernels": ("no", False),
    "tick_kimg": ("4:2,8:0.5", {4: 2, 8: 0.5}),
    "snapshot_ticks": ("10", 10),
    "metric_images": ("64", 64),
}


def test_every_setting_that_the_dataset_leaves_open_has_an_option(faces: Dataset) -> None:
    options: list[str] = []
    for name, (given, _) in VALUES.items():
        option = name.replace("_", "-")
        options += [f"--no-{option}"] if given == "no" else [f"--{option}"] if given is None else [f"--{option}", given]
    config = configured(faces.directory, *options)
    values = asdict(config.network) | asdict(config.training)
    without_option = {"resolution", "channels", "label_size", "pixelnorm_epsilon", "first_bias"}
    assert {name: values[name] for name in values.keys() - without_option} == {
        name: kept for name, (_, kept) in VALUES.items()
    }


def test_the_help_has_every_option_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(train_help().split())
    for name in VALUES:
        assert f" --{name.replace('_', '-')}" in text
    for default in [
        "(default: 8192)",
        "where the discriminator downscales: before or after bias and activation (default: pre_act)",
        "images per step, by resolution (default: 16)",
        "learning rates of Adam, by resolution (default: 0.001)",
        "beta2 of Adam; beta1 is 0 (default: 0.99)",
        "show each real image mirrored half of the time (default: false)",
        "scale within the convolutions: same function, less arithmetic (default: true)",
        "(default: 4:160,8:140,16:120,32:100,64:80,128:60,256:40,512:20,1024:10)",
    ]:
        assert default in text


def test_the_help_names_what_may_change_when_a_run_goes_on() -> None:
    [paragraph] = re.findall("stopping and going on:\n(.*?)\n\n", train_help(), flags=re.DOTALL)
    may_change = {name.removeprefix("training.") for name in MAY_CHANGE if name.startswith("training.")}
    named = set(re.findall("--([a-z-]+)", paragraph)) - {"run", "data"}
    assert named == {name.replace("_", "-") for name in may_change}


def test_the_help_fits_into_a_hundred_columns_of_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert max(map(len, train_help().splitlines())) <= 100
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, train_help().splitlines())) <= 80


def test_the_examples_of_the_help_are_commands() -> None:
    [examples] = re.findall("examples:\n(.*)", train_help(), flags=re.DOTALL)
    lines = [line.strip() for line in examples.replace("\\\n", "").splitlines()]
    found = [line.split(" > ")[0].split() for line in lines if line.startswith("progan ")]
    assert len(found) == 11
    for command in found:
        parser().parse_args(command[1:])


def test_a_setting_is_the_options_or_the_presets_or_the_default(faces: Dataset) -> None:
    small = configured(faces.directory, "--total-kimg", 50)
    assert small.network == NetworkConfig(resolution=8, fmap_base=1024, fmap_max=128)
    assert small.training == TrainingConfig(
        stable_kimg=12,
        fade_kimg=12,
        total_kimg=50,
        batch_sizes={4: 32, 16: 16},
        learning_rates={4: 0.0015},
        ema_halflife_kimg=5,
        ema_rampup=0.05,
        tick_kimg={4: 4},
    )
    papers = configured(faces.directory, "--preset", "celebahq-1024", "--resolution", 8, "--no-mirror")
    assert papers.network == NetworkConfig(resolution=8)
    assert papers.training == TrainingConfig(
        stable_kimg=800,
        fade_kimg=800,
        total_kimg=19000,
        batch_sizes={4: 16, 256: 14, 512: 6, 1024: 3},
        mbstd_group_size=16,
        mirror=False,
        snapshot_ticks=10,
    )


def test_a_table_replaces_the_whole_table_of_the_preset(faces: Dataset) -> None:
    assert configured(faces.directory, "--batch-sizes", "4:8").training.batch_sizes == {4: 8}
    assert configured(faces.directory, "--batch-sizes", "4:64,8:8").training.batch_sizes == {4: 64, 8: 8}


def test_an_option_and_a_preset_with_the_same_value_make_the_same_run(faces: Dataset) -> None:
    by_option = configured(faces.directory, "--stable-kimg", "12.0", "--learning-rates", "0.0015")
    assert by_option.to_json() == configured(faces.directory).to_json()
    assert by_option.digest == configured(faces.directory).digest


def test_a_dataset_with_labels_is_trained_with_them_on_request(faces: Dataset) -> None:
    with_labels = configured(faces.directory, "--labels")
    assert with_labels.network.label_size == 2
    assert with_labels.dataset.label_names == faces.label_names
    for without in (configured(faces.directory), configured(faces.directory, "--no-labels")):
        assert (without.network.label_size, without.dataset.label_names) == (0, ())


def test_a_run_knows_its_dataset(faces: Dataset) -> None:
    parts = {"4x4": faces.digests["4x4"], "8x8": faces.digests["8x8"]}
    assert configured(faces.directory).dataset == DatasetConfig("faces", 48, faces.digest, (), "", parts)


def test_a_run_knows_the_parts_of_its_dataset_that_it_reads(faces: Dataset) -> None:
    assert configured(faces.directory, "--labels").dataset.parts.keys() == {"4x4", "8x8", "labels"}
    assert configured(faces.directory, "--resolution", "4").dataset.parts.keys() == {"4x4"}


def test_how_a_run_is_computed_does_not_make_it_another_run(faces: Dataset) -> None:
    assert configured(faces.directory).setup == SetupConfig(str(faces.directory))
    computed = configured(faces.directory, "--auto-batch", "--dry-run", "--deterministic")
    assert computed.setup == SetupConfig(str(faces.directory), auto_batch=True, deterministic=True)
    assert computed.digest == configured(faces.directory).digest


# presets


def test_presets_lists_each_with_a_sentence(progan: Progan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    ended = progan("presets")
    assert (ended.code, ended.err) == (0, "")
    assert [line for line in ended.out.splitlines() if not line.startswith(" ")] == preset_names()
    assert (
        "cpu-small\n    Small networks for two CPU cores: recognisable 32x32 images within about twenty minutes.\n"
        in ended.out
    )
    assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize("name", preset_names())
def test_a_printed_preset_trains_the_same_run(progan: Progan, faces: Dataset, tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(progan("presets", name).out)
    assert progan("presets", file).out == progan("presets", name).out
    by_name = configured(faces.directory, "--preset", name, "--resolution", 8)
    assert configured(faces.directory, "--preset", file, "--resolution", 8).to_json() == by_name.to_json()


def test_presets_names_what_is_none(progan: Progan, tmp_path: Path) -> None:
    assert progan("presets", "cpu-smal") == refusal("there is no preset 'cpu-smal': did you mean cpu-small?")
    file = tmp_path / "mine.json"
    file.write_text('{"training": {"sede": 1}}')
    assert progan("presets", file) == refusal(f"preset {file}: there is no setting training.sede: did you mean seed?")


# export


def test_export_publishes_version_after_version(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    store = tmp_path / "new" / "store"
    for version in (1, 2):
        ended = progan("export", finished_run, "--store", store, "--name", "faces")
        told = f"{store}/faces/{version}: faces version {version}, 8x8, from progan train, 0.2 kimg\n"
        assert (ended.code, ended.out) == (0, told)
    metadata = ModelStore(store).verify("faces", 2)
    assert metadata.provenance["images_shown"] == 224
    assert metadata.provenance["training"]["batch_sizes"] == {"4": 8}


def test_export_beside_what_serves(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    """The newest version takes over unless it is told not to. Who exports a 4x4 picture of early training is warned."""
    store, early = tmp_path / "store", finished_run / "snapshots" / "images-000000032.safetensors"
    into = ("--store", store, "--name", "faces")
    assert progan("export", finished_run, *into).code == 0
    beside = progan("export", early, *into, "--no-serve", "--version-label", "early")
    assert (beside.code, beside.err) == (0, "")
    assert beside.out.splitlines()[1:] == [
        "  label: early",
        f"  version 1 is pinned and goes on serving; to let this one serve: progan models pin faces 2 --store {store}",
    ]
    assert ModelStore(store).rollout("faces") == Rollout(pinned=1, labels={"early": 2})
    assert ModelStore(store).serving("faces") == 1

    assert progan("models", "pin", "faces", "latest", "--store", store).code == 0
    labelled = progan("export", finished_run, *into, "--version-label", "early")
    assert ModelStore(store).rollout("faces") == Rollout(labels={"early": 3})
    assert labelled.err == (
        "progan: warning: faces version 3 takes over from version 2 and differs from it: images 8x8x3, not 4x4x3. "
        f"To go back: progan models pin faces 2 --store {store}\n"
    )


def test_export_warns_when_attributes_take_the_place_of_classes(progan: Progan, tmp_path: Path) -> None:
    network, names = NetworkConfig(resolution=4, label_size=2, fmap_base=8, fmap_max=4), ("glasses", "smile")
    kinds: tuple[LabelKind, LabelKind] = ("classes", "attributes")
    for kind in kinds:
        trained = TrainedGenerator(Generator(network), 4, 1.0, names, {"source": "test"}, label_kind=kind)
        save_weights(trained, tmp_path / f"{kind}.npz")
        ended = progan("export", tmp_path / f"{kind}.npz", "--store", tmp_path / "store", "--name", "faces")
        assert ended.code == 0
    assert "differs from it: labels 2 attributes, not 2 classes. To go back: " in ended.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--no-serve",), "{store}: model 'faces' has no good version yet that could go on serving"),
        (
            ("--version-label", "Early"),
            "label is 'Early': must be 1 to 63 small letters, digits, dashes or underscores, beginning with a letter",
        ),
        (("--version-label", "latest"), "label is 'latest': must be none of latest, pinned, serves"),
    ],
)
def test_export_refuses_what_cannot_be_before_it_reads(
    progan: Progan, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    store = tmp_path / "store"
    ended = progan("export", tmp_path / "none", "--store", store, "--name", "faces", *options)
    assert ended == refusal(sentence.format(store=store))
    assert not store.exists()


def test_export_refuses_a_bad_name_before_anything_else(progan: Progan, tmp_path: Path) -> None:
    ended = progan("export", tmp_path / "none", "--store", tmp_path / "store", "--name", "my faces")
    assert ended == refusal(
        "model name is 'my faces': must be 1 to 63 letters, digits, dots, dashes or underscores, "
        "beginning with a letter or digit, and not default.json"
    )


def test_export_refuses_what_is_no_source(progan: Progan, tmp_path: Path) -> None:
    ended = progan("export", tmp_path / "none", "--store", tmp_path / "store", "--name", "faces")
    assert ended == refusal(
        f"{tmp_path}/none: no such file or directory; a source is a run directory, a .safetensors or .npz of weights, "
        "an NVIDIA .pkl, a PyTorch .pth or .pt, or a TF Hub module by its handle, .tar.gz or directory"
    )
    assert not (tmp_path / "store").exists()


def test_export_names_a_damaged_checkpoint(progan: Progan, copied_run: Path, tmp_path: Path) -> None:
    newest = copied_run / "checkpoints" / "images-000000224.npz"
    newest.write_bytes(b"PK")
    ended = progan("export", copied_run, "--store", tmp_path / "store", "--name", "faces")
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"progan: {newest}: not a readable checkpoint (")


def test_export_fails_when_the_store_is_a_file(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    ended = progan("export", finished_run, "--store", tmp_path / "store", "--name", "faces")
    assert ended == (78, "", f"progan: {tmp_path}/store: is not a directory; a model store is a directory of models\n")


# weights


def test_weights_writes_those_of_a_run(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    ended = progan("weights", finished_run, tmp_path / "out" / "faces.safetensors")
    assert ended == (0, f"{tmp_path}/out/faces.safetensors: weights of {finished_run}, 8x8\n", "")
    newest = finished_run / "snapshots" / "images-000000224.safetensors"
    assert (tmp_path / "out" / "faces.safetensors").read_bytes() == newest.read_bytes()


def test_weights_turns_one_format_into_the_other(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    snapshot = finished_run / "snapshots" / "images-000000064.safetensors"
    ended = progan("weights", snapshot, tmp_path / "early.npz")
    assert ended == (0, f"{tmp_path}/early.npz: weights of {snapshot}, 4x4\n", "")
    with np.load(tmp_path / "early.npz") as arrays:
        assert arrays["4x4/dense/kernel"].shape == (8, 128)
        assert json.loads(str(arrays["progan"]))["provenance"]["weights_file"] == "images-000000064.safetensors"


def test_weights_leaves_a_file_that_is_there_alone(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "faces.npz").write_text("mine")
    ended = progan("weights", finished_run, tmp_path / "faces.npz")
    assert ended == refusal(f"{tmp_path}/faces.npz: already exists: give the name of a new file")
    assert (tmp_path / "faces.npz").read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "out", "sentence"),
    [
        ("none.npz", "a.pkl", "a.pkl: is no weights file by its name, which must end with .safetensors or .npz"),
        ("none.npz", "a.npz", "none.npz: no such file"),
        (
            "empty",
            "a.npz",
            "empty: neither a training run (no config.json) nor a version of a model (no progan.json) nor an unpacked "
            "TF Hub module (no saved_model.pb)",
        ),
        ("cut.npz", "a.npz", "cut.npz: not a readable weights file (File is not a zip file)"),
    ],
)
def test_weights_names_what_is_wrong_and_writes_nothing(
    progan: Progan, tmp_path: Path, source: str, out: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.npz").write_bytes(b"PK")
    assert progan("weights", tmp_path / source, tmp_path / out) == refusal(f"{tmp_path}/{sentence}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.npz", "empty"]


# serve


def test_serve_refuses_a_cache_for_a_store_that_is_not_copied(progan: Progan, tmp_path: Path) -> None:
    ended = progan("serve", "--store", tmp_path, "--cache", tmp_path / "cache")
    assert ended == refusal(
        f"--cache is '{tmp_path}/cache': must be left out: --store '{tmp_path}' is a directory and needs no copy"
    )


def test_serve_refuses_a_cache_that_holds_other_models(progan: Progan, tiny_store: Path) -> None:
    ended = progan("serve", "--store", "gs://bucket/models", "--cache", tiny_store, "--log-format", "text")
    assert ended == refusal(f"{tiny_store}: has models that are no copy of gs://bucket/models; give another directory")
