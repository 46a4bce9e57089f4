"""The table of collections in docs/datasets.md: every row is tried."""

import gzip
import io
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from progan_service.data.errors import DatasetError
from progan_service.data.making.collection.files import Collection

Opened = Callable[[Path], Collection]
DOCS = Path(__file__).parents[5] / "docs" / "datasets.md"


def _tar(path: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    return path


def _zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"")
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _saved(path: Path) -> Path:
    path.mkdir()
    np.save(path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    np.savez(path / "a.npz", np.zeros((2, 4, 4), np.uint8))
    Image.new("RGB", (4, 4)).save(path / "a.png")
    with h5py.File(path / "a.h5", "w") as file:
        file["a"] = np.zeros(2)
    return path


_IDX = b"\0\0\x08\3" + (1).to_bytes(4) * 3 + b"x"
TRIED: dict[str, list[Callable[[Path], Path]]] = {
    "a folder": [_saved],
    "a zip": [_zip],
    "a tar": [lambda path, mode=mode: _tar(path, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")],
    "a .npy": [lambda path: _saved(path) / "a.npy"],
    "an .npz": [lambda path: _saved(path) / "a.npz"],
    "an idx file": [lambda path: _written(path, _IDX), lambda path: _written(path, gzip.compress(_IDX))],
    "a Zstandard": [
        lambda path, magic=magic: _written(path, magic)
        for magic in (
            *(b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x04\x22\x4d\x18", b"LZIP", b"\x1f\x9d"),
            *(b"!<arch>\n", b"070701", b"hsqs"),
        )
    ],
    "a part of a split zip": [lambda path: _written(path, b"PK\3\4")],
    "a compressed file": [lambda path: _written(path, gzip.compress(b"x"))],
    "an HDF5": [
        lambda path: _saved(path) / "a.h5",
        *(lambda path, magic=magic: _written(path, magic) for magic in (b"MATLAB 5.0", b"PAR1", b"ARROW1")),
    ],
    "an LMDB": [lambda path: _written(path, bytes(16) + b"\xde\xc0\xef\xbe")],
    "a Python pickle": [lambda path: _written(path, pickle.dumps({}, 2))],
    "a TFRecord file": [lambda path: _written(path, (82).to_bytes(8, "little") + b"\1\2\3\4" + b"\n\x50")],
    "a picture": [lambda path: _saved(path) / "a.png"],
}


def rows() -> dict[str, str]:
    """The first column of the table and the first word of the second."""
    table = DOCS.read_text().split("## Collections")[1].split("| in a collection")[0]
    return {row[0]: row[1] for row in re.findall(r"^\| (.+?) \| (\w+).* \|$", table, re.MULTILINE)[1:]}


@pytest.mark.parametrize(("row", "outcome"), rows().items())
def test_what_is_documented_happens(tmp_path: Path, opened: Opened, row: str, outcome: str) -> None:
    (beginning,) = [key for key in TRIED if re.match(rf"{re.escape(key)}\b", row)]
    for number, make in enumerate(TRIED[beginning]):
        path = make(tmp_path / str(number))
        if outcome == "read":
            assert opened(path).files
        else:
            assert outcome == "refused"
            with pytest.raises(DatasetError, match=rf"^{path}: (is|holds) "):
                opened(path)


def test_every_row_is_tried() -> None:
    assert len(rows()) == len(TRIED)


def test_cifar_10_is_read_as_documented(tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of CIFAR-10's binary version: the class, 1,024 red bytes, 1,024 green ones, 1,024 blue ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    row = b"\7" + b"\x0a" * 1024 + b"\x14" * 1024 + b"\x1e" * 1024
    for number in (1, 2):
        (tmp_path / "cifar-10-batches-bin" / f"data_batch_{number}.bin").write_bytes(row * 2)
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exec(code, {})
    files = opened(tmp_path / "cifar10.npy").files
    assert len(files) == 4
    assert Image.open(io.BytesIO(files[3].read())).getcolors() == [(1024, (10, 20, 30))]
