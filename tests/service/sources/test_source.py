"""A source is told by what it is: a run, weights, a pickle, a module."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from progan_service.errors import BadInputError
from progan_service.export.exportable import Exportable
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


def test_a_weights_file_of_ones_own(numpy_generator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program in docs/generators.md writes one, and what stands there is what is drawn."""
    guide = (Path(__file__).parents[3] / "docs" / "generators.md").read_text()
    program = guide.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(program, names)
    weights = names["weights"]

    def layer(name: str, gain: float = 2**0.5) -> tuple[Any, Any]:
        kernel = weights[f"{name}/kernel"]
        return kernel.transpose(3, 2, 0, 1) * gain / np.prod(kernel.shape[:3]) ** 0.5, weights[f"{name}/bias"]

    dense = weights["4x4/dense/kernel"].reshape(6, 4, 4, 6).transpose(0, 3, 1, 2) * 2**0.5 / 6**0.5 / 4
    layers = [layer(name) for name in ("4x4/conv", "8x8/conv0", "8x8/conv1")]
    z = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    expected = numpy_generator(z, (dense, weights["4x4/bias"]), layers, layer("to_rgb_8x8", gain=1.0))
    trained = opened("mine.safetensors", tmp_path)
    images = Exportable.of(trained).images(tf.constant(z), None)
    np.testing.assert_allclose(images, expected.transpose(0, 2, 3, 1), atol=1e-5)


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


def test_a_version_of_a_store_has_no_pin(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="/tiny/1: is a version, which has the SHA-256 of each of its files"):
        opened(tiny_store / "tiny" / "1", tmp_path, sha256="0" * 64)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none", "no such file or directory; a source is a run directory, "),
        ("notes.txt", "is no kind of source by its name; a source is a run directory, "),
        (
            "empty",
            "neither a training run .no config.json. nor a version of a model .no progan.json. nor an unpacked TF",
        ),
        ("none.pkl", "no such file"),
        ("none.npz", "no such file"),
        ("none.pth", "no such file"),
        ("none.pt", "no such file"),
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
