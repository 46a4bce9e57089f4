"""Tiny real pictures and datasets, made anew for each test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.making.records import write_dataset
from progan_service.data.manifest import Manifest

Pixels = NDArray[np.uint8]


@pytest.fixture
def pixels() -> Pixels:
    """Five random 16x16 RGB images [5, 16, 16, 3]."""
    return np.random.default_rng(7).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def dataset_directory(tmp_path: Path, pixels: Pixels) -> Path:
    """A labelled dataset "things" of `pixels`, in levels 4, 8 and 16."""
    directory = tmp_path / "things"
    directory.mkdir()
    labels = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]]
    manifest = Manifest("a box of things", 5, 16, label="kind", label_names=("round", "square"))
    write_dataset(directory, "things", pixels, manifest, labels)
    return directory


@pytest.fixture
def save_pictures() -> Callable[[Path, int], Path]:
    """Fill a folder with numbered 8x8 PNG pictures, each of one colour."""

    def save(folder: Path, count: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (8, 8), (index * 20, 100, 200)).save(folder / f"{index:03d}.png")
        return folder

    return save
