"""The guide of a version, as a file."""

from pathlib import Path

import numpy as np
import pytest

from progan_service.formats import FormatError
from progan_service.latents.inversion.guide import Guide
from progan_service.store.errors import ModelStoreError
from progan_service.store.inversion import read_guide, save_guide
from progan_service.store.metadata import ModelMetadata
from progan_service.store.store import ModelStore

METADATA = ModelMetadata(latent_size=2, resolution=4, channels=1)
GUIDE = Guide(np.ones(16, np.float32), np.ones((16, 2), np.float32), np.eye(2, dtype=np.float32), 0.5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_guide(GUIDE, (2**32, 64), tmp_path / "invert.npz")
    return tmp_path / "invert.npz"


def changed(file: Path, **arrays: object) -> Path:
    """Write the file again with other arrays; None leaves one out."""
    with np.load(file) as before:
        kept = {**before, **arrays}
    np.savez(file, **{name: np.asarray(array) for name, array in kept.items() if array is not None})
    return file


def test_a_guide_is_read_as_it_was_written(file: Path) -> None:
    found = read_guide(file, METADATA)
    assert (found.mean.shape, found.matrix.shape, found.cosine) == ((16,), (16, 2), 0.5)
    assert (found.metric == GUIDE.metric).all()
    with np.load(file) as arrays:
        assert arrays["bank_seeds"].tolist() == [2**32, 64]


def test_what_a_newer_release_adds_is_ignored(file: Path) -> None:
    assert read_guide(changed(file, depth=np.ones(3)), METADATA).cosine == 0.5


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"format_version": 2}, "was written by a newer release"),
        ({"format_version": None}, "format_version is 'missing': must be int64"),
        ({"matrix": None}, r"matrix is 'missing': must be float32 \(16, 2\)"),
        ({"metric": np.eye(3, dtype=np.float32)}, r"metric is 'float32 \(3, 3\)': must be float32 \(2, 2\)"),
        ({"mean": np.ones(16)}, r"mean is 'float64 \(16,\)': must be float32 \(16,\)"),
        ({"mean": np.full(16, np.nan, np.float32)}, "mean is 'not finite everywhere': must be finite"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused(file: Path, arrays: dict[str, object], problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        read_guide(changed(file, **arrays), METADATA)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    def write(directory: Path) -> ModelMetadata:
        (directory / "invert.npz").write_bytes(b"PK nothing")
        return METADATA

    store = ModelStore(tmp_path)
    store.publish("toy", write)
    with pytest.raises(ModelStoreError, match=r"toy/1/invert.npz: is damaged"):
        store.guide("toy", 1)


def test_a_version_of_an_earlier_release_has_none(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.publish("toy", lambda _: METADATA)
    assert store.guide("toy", 1) is None
