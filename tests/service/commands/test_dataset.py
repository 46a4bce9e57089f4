"""`progan dataset build`, `label` and `demo`: what they report, and what they refuse."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from progan_command import refusal

from progan_service.data.dataset import Dataset

Progan = Callable[..., Any]  # see tests/service/conftest.py


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
