"""A source is told by what it is: a run, weights, a pickle, a module."""

import hashlib
import shutil
from pathlib import Path

import pytest

from progan_service.errors import BadInputError
from progan_service.export.trained import TrainedGenerator
from progan_service.export.weights_file import save_weights
from progan_service.sources.run import load_run
from progan_service.sources.source import open_source


def opened(source: object, staging: Path, sha256: str = "") -> TrainedGenerator:
    found = open_source(str(source), staging, sha256=sha256, progress=lambda *_: None)
    assert isinstance(found, TrainedGenerator)
    return found


def test_a_run_and_its_snapshots(finished_run: Path, tmp_path: Path) -> None:
    assert opened(finished_run, tmp_path).provenance["images_shown"] == 224
    early = opened(finished_run / "snapshots" / "images-000000032.safetensors", tmp_path)
    assert (early.provenance["images_shown"], early.resolution) == (32, 4)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_weights(finished_run: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"faces.{suffix}"
    save_weights(load_run(finished_run), file)
    assert opened(file, tmp_path).provenance["weights_file"] == file.name


def test_content_can_be_pinned(finished_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "faces.npz"
    save_weights(load_run(finished_run), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert opened(file, tmp_path, sha256=digest.upper()).resolution == 8
    with pytest.raises(BadInputError, match=f"^{file}: has the SHA-256 {digest}, not {'0' * 64}; it is another file"):
        opened(file, tmp_path, sha256="0" * 64)
    with pytest.raises(BadInputError, match="sha256 is 'abc': must be 64 hexadecimal digits"):
        opened(file, tmp_path, sha256="abc")
    with pytest.raises(BadInputError, match="a run goes on and has no SHA-256 of its own; give one of its snapshots"):
        opened(finished_run, tmp_path, sha256=digest)


def test_a_version_of_a_store_is_no_source(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError,
        match="/tiny/1: is exported already; to use it in another store, copy the directory",
    ):
        opened(tiny_store / "tiny" / "1", tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none", "no such file or directory; a source is a run directory, "),
        ("notes.txt", "is no kind of source by its name; a source is a run directory, "),
        ("empty", "neither a training run .no config.json. nor an unpacked TF Hub module .no saved_model.pb."),
        ("none.pkl", "no such file"),
        ("none.npz", "no such file"),
        ("none.tar.gz", "no such file or directory; give a handle"),
    ],
)
def test_what_is_no_source_is_told_what_would_be_one(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadInputError, match=f"^{tmp_path / name}: {sentence}"):
        opened(tmp_path / name, tmp_path)


def test_a_run_that_is_only_begun_has_no_generator_yet(finished_run: Path, tmp_path: Path) -> None:
    shutil.copy(finished_run / "config.json", tmp_path)
    with pytest.raises(BadInputError, match="no checkpoint yet"):
        opened(tmp_path, tmp_path)
