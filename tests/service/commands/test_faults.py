"""One fault, one exit code, whatever the command: 1 when it can be mended outside, 78 for what is not there.

The sentence names the path as it was given and says what to do: no error number, no temporary name, no traceback.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from progan_service.commands import parser as cli
from progan_service.data.dataset import Dataset

FULL = "the disk is full; free some space, or give another path"
READ_ONLY = "the file system is read-only; mount it for writing, or give another path"
DENIED = "permission denied; give this user access, or give another path"
IN_THE_WAY = "a part of this path is a file, not a directory; give another path"

TRAIN = "--stable-kimg 0.064 --fade-kimg 0.064 --tick-kimg 0.032 --batch-sizes 8 --fmap-base 32 --fmap-max 8"
SERVE = "serve --log-format text --port 0 --http-port 0"
EVALUATE = "evaluate run --data faces --images 8"

OUTCOMES = {
    "dataset build photos full/set --resolution 8": (1, f"full/set: {FULL}"),
    "dataset build photos readonly/set --resolution 8": (1, f"readonly/set: {READ_ONLY}"),
    "dataset build photos closed/set --resolution 8": (1, f"closed/set: {DENIED}"),
    "dataset build photos file/set --resolution 8": (1, f"file/set: {IN_THE_WAY}"),
    "dataset build unreadable/photos set --resolution 8": (1, f"unreadable/photos: {DENIED}"),
    "dataset build unreadable/photos.zip set --resolution 8": (1, f"unreadable/photos.zip: {DENIED}"),
    "dataset build photos set --resolution 8 --report full/r.csv": (1, f"full/r.csv: {FULL}"),
    "dataset build photos set --resolution 8 --report readonly/r.csv": (1, f"readonly/r.csv: {READ_ONLY}"),
    "dataset build photos set --resolution 8 --report closed/r.csv": (1, f"closed/r.csv: {DENIED}"),
    "dataset build none set --resolution 8": (78, "none: does not exist: give a folder, a zip or a tar of images"),
    "dataset demo full/set --count 4": (1, f"full/set: {FULL}"),
    "dataset demo readonly/set --count 4": (1, f"readonly/set: {READ_ONLY}"),
    "dataset demo closed/set --count 4": (1, f"closed/set: {DENIED}"),
    "dataset demo file/set --count 4": (1, f"file/set: {IN_THE_WAY}"),
    "dataset label unreadable/faces --labels folders": (1, f"unreadable/faces: {DENIED}"),
    "dataset label none --labels folders": (
        78,
        "none: does not exist: give a dataset directory, such as `progan dataset build` makes",
    ),
    "dataset verify unreadable/faces": (1, f"unreadable/faces: {DENIED}"),
    "dataset verify none": (
        78,
        "none: does not exist: give a dataset directory, such as `progan dataset build` makes",
    ),
    f"train --data faces --run full/run {TRAIN}": (1, f"full/run/config.json: {FULL}"),
    f"train --data faces --run small/run {TRAIN}": (1, f"small/run/checkpoints/images-000000032.npz: {FULL}"),
    f"train --data faces --run readonly/run {TRAIN}": (1, f"readonly/run: {READ_ONLY}"),
    f"train --data faces --run closed/run {TRAIN}": (1, f"closed/run: {DENIED}"),
    f"train --data faces --run file/run {TRAIN}": (1, f"file/run: {IN_THE_WAY}"),
    "train --data unreadable/faces --run run2": (1, f"unreadable/faces: {DENIED}"),
    "train --data none --run run2": (
        78,
        "none: does not exist: give a dataset directory, such as `progan dataset build` makes",
    ),
    "presets unreadable/preset.json": (1, f"unreadable/preset.json: {DENIED}"),
    "presets none/preset.json": (78, "none/preset.json: cannot be read: No such file or directory"),
    "grid run -o full/grid.png": (1, f"full/grid.png: {FULL}"),
    "grid unreadable/weights.npz -o grid.png": (1, f"unreadable/weights.npz: {DENIED}"),
    "walk run --frames 0 -o closed/walk.webp": (1, f"closed/walk.webp: {DENIED}"),
    "runs none": (78, "none: no such directory: give a directory of runs, or a run"),
    "runs unreadable/faces": (1, f"unreadable/faces: {DENIED}"),
    "runs photos/a.png": (78, "photos/a.png: is a file: give a directory of runs, or a run"),
    "plot run -o full/curves.png": (1, f"full/curves.png: {FULL}"),
    "plot run -o closed/curves.png": (1, f"closed/curves.png: {DENIED}"),
    "plot none -o curves.png": (78, "none: no such file or directory; give the directory of `progan train --run`"),
    "plot photos -o curves.png": (
        78,
        "photos: not a training run (no config.json); give the directory of `progan train --run`",
    ),
    "timelapse run -o readonly/t.webp": (1, f"readonly/t.webp: {READ_ONLY}"),
    "timelapse none -o t.webp": (78, "none: no such file or directory; give the directory of `progan train --run`"),
    "timelapse photos -o t.webp": (
        78,
        "photos: not a training run (no config.json); give the directory of `progan train --run`",
    ),
    f"{EVALUATE} --json full/figures.json": (1, f"full/figures.json: {FULL}"),
    f"{EVALUATE} --json readonly/figures.json": (1, f"readonly/figures.json: {READ_ONLY}"),
    f"{EVALUATE} --json closed/figures.json": (1, f"closed/figures.json: {DENIED}"),
    "evaluate run --data unreadable/faces": (1, f"unreadable/faces: {DENIED}"),
    "evaluate none --data faces": (
        78,
        "none: no such file or directory; "
        "give a run, STORE/MODEL/VERSION, or a file: a snapshot or other weights, NVIDIA's .pkl, PyTorch's .pth",
    ),
    "export run --store full/store --name faces": (1, f"full/store/faces: {FULL}"),
    "export run --store readonly/store --name faces": (1, f"readonly/store/faces: {READ_ONLY}"),
    "export run --store closed/store --name faces": (1, f"closed/store/faces: {DENIED}"),
    "export run --store closed/new --name faces": (1, f"closed/new: {DENIED}"),
    "export run --store file/store --name faces": (1, f"file/store: {IN_THE_WAY}"),
    "export unreadable/weights.npz --store store --name faces": (1, f"unreadable/weights.npz: {DENIED}"),
    "export unreadable/weights.safetensors --store store --name faces": (
        1,
        f"unreadable/weights.safetensors: {DENIED}",
    ),
    "export unreadable/faces.pkl --store store --name faces": (1, f"unreadable/faces.pkl: {DENIED}"),
    "export unreadable/module.tar.gz --store store --name faces": (1, f"unreadable/module.tar.gz: {DENIED}"),
    "export none.npz --store store --name faces": (78, "none.npz: no such file"),
    "export none --best --store store --name faces": (
        78,
        "none: no such file or directory; --best chooses among the snapshots of a run",
    ),
    "export none --discriminator --store store --name faces": (
        78,
        "none: no such file or directory; --discriminator takes that of a run",
    ),
    "weights run full/faces.npz": (1, f"full/faces.npz: {FULL}"),
    "weights run full/faces.safetensors": (1, f"full/faces.safetensors: {FULL}"),
    "weights run readonly/faces.npz": (1, f"readonly/faces.npz: {READ_ONLY}"),
    "weights run closed/faces.npz": (1, f"closed/faces.npz: {DENIED}"),
    "weights run file/faces.npz": (
        1,
        "file/faces.npz: a file of this name, or of a part of it, is in the way; give another path",
    ),
    "weights none.safetensors faces.npz": (78, "none.safetensors: no such file"),
    "models --store unreadable/store": (1, f"unreadable/store: {DENIED}"),
    "models --store none": (78, "none: no such directory; a model store is a directory of models"),
    "models verify --store unreadable/store": (1, f"unreadable/store: {DENIED}"),
    "models verify --store none": (78, "none: no such directory; a model store is a directory of models"),
    "models pin tiny 1 --store full/store": (1, f"full/store/tiny/rollout.json: {FULL}"),
    "models pin tiny 1 --store readonly/store": (1, f"readonly/store/tiny/rollout.json: {READ_ONLY}"),
    "models pin tiny 1 --store closed/store": (1, f"closed/store/tiny/rollout.json: {DENIED}"),
    "models pin tiny 1 --store none": (78, "none: no such directory; a model store is a directory of models"),
    "models label tiny canary 1 --store full/store": (1, f"full/store/tiny/rollout.json: {FULL}"),
    "models label tiny canary 1 --store readonly/store": (1, f"readonly/store/tiny/rollout.json: {READ_ONLY}"),
    "models label tiny canary 1 --store closed/store": (1, f"closed/store/tiny/rollout.json: {DENIED}"),
    "models label tiny canary 1 --store none": (78, "none: no such directory; a model store is a directory of models"),
    "models unlabel tiny stable --store full/store": (1, f"full/store/tiny/rollout.json: {FULL}"),
    "models unlabel tiny stable --store readonly/store": (1, f"readonly/store/tiny/rollout.json: {READ_ONLY}"),
    "models unlabel tiny stable --store closed/store": (1, f"closed/store/tiny/rollout.json: {DENIED}"),
    "models unlabel tiny stable --store none": (78, "none: no such directory; a model store is a directory of models"),
    "models share tiny stable 10 --store full/store": (1, f"full/store/tiny/rollout.json: {FULL}"),
    "models share tiny stable 10 --store readonly/store": (1, f"readonly/store/tiny/rollout.json: {READ_ONLY}"),
    "models share tiny stable 10 --store closed/store": (1, f"closed/store/tiny/rollout.json: {DENIED}"),
    "models share tiny stable 10 --store none": (78, "none: no such directory; a model store is a directory of models"),
    "models prune --keep 1 --store readonly/store": (1, f"readonly/store/tiny/1: {READ_ONLY}"),
    "models prune --keep 1 --store closed/store": (1, f"closed/store/tiny/1: {DENIED}"),
    "models prune --keep 1 --store none": (78, "none: no such directory; a model store is a directory of models"),
    "models default tiny --store none": (78, "none: no such directory; a model store is a directory of models"),
    "directions discover --store none --model tiny": (
        78,
        "none: no such directory; a model store is a directory of models",
    ),
    "directions fit --scores none.csv --store none --model tiny": (
        78,
        "none: no such directory; a model store is a directory of models",
    ),
    "directions fit --scores none.csv --store store --model tiny": (
        78,
        "none.csv: cannot be read: No such file or directory",
    ),
    "directions score --scorer judges:size --store none --model tiny scores.csv": (
        78,
        "none: no such directory; a model store is a directory of models",
    ),
    "directions show --store none --model tiny": (
        78,
        "none: no such directory; a model store is a directory of models",
    ),
    "directions rename axis-1 light --store none --model tiny": (
        78,
        "none: no such directory; a model store is a directory of models",
    ),
    f"{SERVE} --store file:///models --cache full/cache": (1, f"full/cache: {FULL}"),
    f"{SERVE} --store file:///models --cache readonly/cache": (1, f"readonly/cache: {READ_ONLY}"),
    f"{SERVE} --store file:///models --cache closed/cache": (1, f"closed/cache: {DENIED}"),
    "serve --config unreadable/progan.toml": (1, f"unreadable/progan.toml: {DENIED}"),
    "serve --config none.toml": (78, "none.toml: cannot be read: No such file or directory"),
    f"{SERVE} --store none": (78, "none: no such directory; a model store is a directory of models"),
    f"{SERVE} --store store --port PORT": (
        1,
        "the gRPC port cannot be opened on 127.0.0.1:PORT: Address already in use; try another --port or --host",
    ),
}


def commands() -> set[str]:
    """All commands of `progan` that do something."""

    def below(parser: argparse.ArgumentParser, name: str) -> set[str]:
        kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        found = {name} if parser.get_default("run") else set()
        return found.union(*(below(p, f"{name} {n}".strip()) for kind in kinds for n, p in kind.choices.items()))

    return below(cli.parser(), "")


def test_the_table_has_every_command() -> None:
    longest_first = sorted(commands(), key=len, reverse=True)
    assert {next(name for name in longest_first if line.startswith(f"{name} ")) for line in OUTCOMES} == commands()


@pytest.fixture(scope="module")
def endings(
    tmp_path_factory: pytest.TempPathFactory, tiny_store: Path, finished_run: Path, faces: Dataset
) -> dict[str, tuple[int, str]]:
    """How each command of the table ended, and what it said; all of them run in one process, where no rights help."""
    here = tmp_path_factory.mktemp("places")
    _fill(here, tiny_store, finished_run, faces)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        lines = [line.replace("PORT", port).split() for line in OUTCOMES]
        command = [sys.executable, Path(__file__).with_name("faulty_places.py"), here]
        done = subprocess.run(command, input=json.dumps(lines), capture_output=True, text=True, timeout=600)
    subprocess.run(["chmod", "-R", "u+rwX", here], check=True)
    if "unshare" in done.stderr:
        pytest.skip(f"this system gives no user namespaces: {done.stderr}")
    assert done.returncode == 0, done.stderr
    ended = [(code, said.replace(port, "PORT")) for code, said in json.loads((here / "endings.json").read_text())]
    return dict(zip(OUTCOMES, ended, strict=True))


def _fill(here: Path, store: Path, run: Path, faces: Dataset) -> None:
    shutil.copytree(run, here / "run")
    shutil.copytree(faces.directory, here / "faces")
    shutil.copytree(store / "tiny", here / "store" / "tiny")
    shutil.copytree(store / "tiny" / "1", here / "store" / "tiny" / "2")
    (here / "store" / "tiny" / "rollout.json").write_text('{"labels": {"stable": 2}}')
    (here / "file").touch()
    (here / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(here / "photos" / "a.png")
    shutil.copytree(here / "store", here / "closed" / "store")
    for directory in ("photos", "faces", "store"):
        shutil.copytree(here / directory, here / "unreadable" / directory)
    shutil.make_archive(str(here / "unreadable" / "photos"), "zip", here / "photos")
    for name in ("preset.json", "weights.npz", "weights.safetensors", "faces.pkl", "module.tar.gz", "progan.toml"):
        (here / "unreadable" / name).touch()


@pytest.mark.parametrize("line", OUTCOMES)
def test_a_fault_has_one_exit_code_and_one_sentence(endings: dict[str, tuple[int, str]], line: str) -> None:
    code, sentence = OUTCOMES[line]
    assert endings[line] == (code, f"progan: {sentence}\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["presets", "models", "completion bash"])
def test_a_full_disk_below_standard_output_is_one_sentence_too(line: str, unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        command = [Path(sys.executable).with_name("progan"), *line.split()]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (1, f"progan: standard output: {FULL}\n")


@pytest.mark.parametrize("line", ["--help", "--version", "serve --help"])
def test_help_that_cannot_be_written_is_one_sentence_too(line: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [Path(sys.executable).with_name("progan"), *line.split()]
        environment = os.environ | {"PYTHONUNBUFFERED": ""}
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (1, f"progan: standard output: {FULL}\n")


def test_a_command_needs_no_standard_output() -> None:
    command = f"{Path(sys.executable).with_name('progan')} presets >&-"
    ended = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_text_that_standard_output_cannot_hold_is_spelt_out(tiny_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    description = store / "tiny" / "1" / "progan.json"
    content = json.loads(description.read_text())
    content["provenance"]["source"] = "attic\ud83c"
    description.write_text(json.dumps(content))
    command = [Path(sys.executable).with_name("progan"), "models", "--store", store]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "attic\\ud83c" in ended.stdout
