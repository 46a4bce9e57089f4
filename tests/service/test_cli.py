"""The `progan` command: what it prints, and the exit codes that orchestrators rely on."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from progan_service import cli
from progan_service.data.dataset import Dataset
from progan_service.model_store import ModelStore

SCHEDULE = ["--stable-kimg", "0.064", "--fade-kimg", "0.064", "--tick-kimg", "0.032"]
SCHEDULE += ["--batch-size", "8", "--fmap-base", "32", "--fmap-max", "8"]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Progan = Callable[..., Ended]


@pytest.fixture
def progan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Progan]:
    """Runs the command in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["progan", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def refusal(sentence: str) -> Ended:
    """Bad configuration or data: running again will not help."""
    return Ended(78, "", f"progan: {sentence}\n")


# Help and usage


@pytest.mark.parametrize(
    "command",
    [[], ["serve"], ["dataset"], ["dataset", "build"], ["dataset", "demo"], ["train"], ["export"], ["models"]],
)
def test_every_command_has_help(progan: Progan, command: list[str]) -> None:
    ended = progan(*command, "--help")
    assert ended.code == 0
    assert ended.out.startswith("usage: " + " ".join(["progan", *command]))


def test_the_help_tells_the_exit_codes(progan: Progan) -> None:
    text = " ".join(progan("--help").out.split())
    assert text.endswith(
        "exit codes: 0 done; 1 failed; 2 usage; 75 stopped by a signal with all work saved, run again to go on; "
        "78 bad configuration or data, running again will not help"
    )


def test_help_takes_no_tensorflow() -> None:
    script = (
        "import sys; from progan_service import cli; cli.parser().format_help(); print('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["train", "--data", "d"], "the following arguments are required: --run"),
        (["train", "--data", "d", "--run", "r", "--preset", "huge"], "invalid choice: 'huge'"),
        (
            ["train", "--data", "d", "--run", "r", "--batch-size", "4:32,16"],
            "argument --batch-size: invalid value, or RESOLUTION:VALUE,... list value: '4:32,16'",
        ),
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
    assert ended == Ended(0, f"{tmp_path}/set: 3 images, 4x4 to 8x8; 1 other files ignored\n", "")
    assert Dataset.open(tmp_path / "set").count == 3


def test_dataset_demo_tells_what_it_drew(progan: Progan, tmp_path: Path) -> None:
    ended = progan("dataset", "demo", tmp_path / "faces", "--resolution", 8, "--count", 4, "--label", "smile")
    assert ended == Ended(0, f"{tmp_path}/faces: 4 faces, 4x4 to 8x8\n", "")
    assert Dataset.open(tmp_path / "faces").labels is not None


def test_dataset_build_names_a_missing_folder(progan: Progan, tmp_path: Path) -> None:
    ended = progan("dataset", "build", tmp_path / "none", tmp_path / "set", "--resolution", 8)
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"progan: {tmp_path}/none: ")


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
        (["--resolution", 16], "resolution is 16: the dataset has images of 8 at most"),
        (["--resolution", 6], "resolution is 6: must be a power of two from 4 to 1024"),
        (["--total-kimg", "inf"], "total_kimg is inf: must be 0.001 (one image) or more, and finite"),
        (["--batch-size", "8:16"], "batch_sizes is {8: 16}: must give a value for resolution 4"),
        (["--fmap-base", 2], "fmap_base is 2: must be at least 4 for 8x8 images"),
    ],
)
def test_train_refuses_what_cannot_run(
    progan: Progan, faces: Dataset, tmp_path: Path, arguments: list[object], sentence: str
) -> None:
    assert progan("train", "--data", faces.directory, "--run", tmp_path / "run", *arguments) == refusal(sentence)
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_run_begun_with_another_configuration(progan: Progan, faces: Dataset, copied_run: Path) -> None:
    train = ["train", "--data", faces.directory, "--run", copied_run, *SCHEDULE, "--learning-rate", 0.001]
    ended = progan(*train, "--total-kimg", 0.3, "--seed", 1)
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"progan: {copied_run}: began with another configuration: ")
    assert ended.err.endswith("training.seed was 0, is 1; go on with the same or name a new run\n")


def test_train_leaves_a_directory_of_something_else_alone(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter one")
    ended = progan("train", "--data", faces.directory, "--run", tmp_path)
    assert ended == refusal(f"{tmp_path}: exists and is not a training run; give a new or empty directory")


def test_train_fails_where_it_may_not_write(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = progan("train", "--data", faces.directory, "--run", tmp_path / "file" / "run")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"progan: [Errno 20] Not a directory: '{tmp_path}/file/run'\n"


def test_train_killed_by_sigterm_saves_and_goes_on(progan: Progan, faces: Dataset, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    train = ["train", "--data", faces.directory, "--run", run, *SCHEDULE]
    with log.open("w") as output:
        command = [Path(sys.executable).parent / "progan", *train, "--total-kimg", 1000]
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "kimg " in log.read_text() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 75, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert log.read_text().endswith("stopped by a signal; everything is saved, the same command goes on\n")

    newest = max((run / "checkpoints").iterdir())
    images_shown = int(newest.stem.removeprefix("images-"))
    ended = progan(*train, "--total-kimg", (images_shown + 8) / 1000)
    assert (ended.code, ended.err) == (0, "")
    first, *_, last = ended.out.splitlines()
    assert first == f"going on from {newest}"
    assert last == f"done: progan export {run} --store DIR --name NAME makes it servable"


def wait_until(come: Callable[[], bool], within_s: float = 120) -> None:
    give_up = time.monotonic() + within_s
    while not come():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.05)


# export


def test_export_publishes_version_after_version(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    store = tmp_path / "new" / "store"
    for version in (1, 2):
        ended = progan("export", finished_run, "--store", store, "--name", "faces")
        assert (ended.code, ended.out) == (0, f"{store}/faces/{version}: faces version {version}, 8x8\n")
    metadata = ModelStore(store).verify("faces", 2)
    assert metadata.provenance["images_shown"] == 224
    assert metadata.provenance["training"]["batch_sizes"] == {"4": 8}


def test_export_refuses_a_bad_name_before_anything_else(progan: Progan, tmp_path: Path) -> None:
    ended = progan("export", tmp_path / "none", "--store", tmp_path / "store", "--name", "my faces")
    assert ended == refusal(
        "model name is 'my faces': must be 1 to 63 letters, digits, dots, dashes or underscores, "
        "beginning with a letter or digit"
    )


def test_export_refuses_what_is_no_run(progan: Progan, tmp_path: Path) -> None:
    ended = progan("export", tmp_path / "none", "--store", tmp_path / "store", "--name", "faces")
    assert ended == refusal(
        f"{tmp_path}/none: not a training run (no config.json); give the directory of `progan train --run`"
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
    assert ended == Ended(
        78, "", f"progan: {tmp_path}/store: is not a directory; a model store is a directory of models\n"
    )


# models


def test_models_lists_a_table_newest_version_first(progan: Progan, tiny_store: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        (tmp_path / "tiny" / str(version)).mkdir(parents=True)
        metadata = (tiny_store / "tiny" / "1" / "progan.json").read_text()
        (tmp_path / "tiny" / str(version) / "progan.json").write_text(metadata)
    ended = progan("models", "--store", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    heading, second, first = ended.out.splitlines()
    assert heading.split() == ["MODEL", "VERSION", "SIZE", "LATENT", "KIMG", "EXPORTED", "DIGEST"]
    assert re.fullmatch(r"tiny   2        8x8x3  16 +\d{4}-\d\d-\d\d  sha256:[0-9a-f]{12}", second)
    assert first.split()[:2] == ["tiny", "1"]


def test_models_tells_what_a_run_has_seen(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    progan("export", finished_run, "--store", tmp_path, "--name", "faces")
    assert progan("models", "--store", tmp_path).out.splitlines()[1].split()[4] == "0.2"


def test_models_shows_a_broken_version_and_why(progan: Progan, tmp_path: Path) -> None:
    (tmp_path / "faces" / "3").mkdir(parents=True)
    ended = progan("models", "--store", tmp_path)
    assert ended.code == 0
    row = ended.out.splitlines()[1]
    assert row.split()[:2] == ["faces", "3"]
    assert row.endswith(f"cannot be served: {tmp_path}/faces/3/progan.json: missing; every version needs one")


def test_models_names_a_missing_store(progan: Progan, tmp_path: Path) -> None:
    ended = progan("models", "--store", tmp_path / "none")
    assert ended == refusal(f"{tmp_path}/none: no such directory; a model store is a directory of models")
