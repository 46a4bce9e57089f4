"""`progan weights`: the weights of a source as a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from progan_command import refusal

Progan = Callable[..., Any]  # see tests/service/conftest.py


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
