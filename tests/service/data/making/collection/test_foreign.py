"""Collections that are not read are refused by name, with the way round."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from progan_service.data.errors import DatasetError
from progan_service.data.making.build import build_dataset
from progan_service.data.making.collection.files import Collection

Opened = Callable[[Path], Collection]
AS_ARRAY = "save its images as a .npy of uint8 [N, H, W, 3], or as files"
JOIN = "join the parts (`zip -s 0 PARTS.zip --out WHOLE.zip`, or `cat NAME.zip.* > WHOLE.zip`)"


def _picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    return stream.getvalue()


def _hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["images"] = np.zeros((2, 4, 4, 3), np.uint8)
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", _picture())
    return stream.getvalue()


def _last_part() -> bytes:
    """The end of a zip of three parts: the numbers of this part and of that with the directory are 2."""
    content = bytearray(_zip())
    at = content.rindex(b"PK\5\6")
    content[at + 4 : at + 8] = b"\2\0\2\0"
    return bytes(content)


# The magic numbers of https://en.wikipedia.org/wiki/List_of_file_signatures, where nothing here can make a file.
REFUSED = {
    "tar.zst": (
        b"\x28\xb5\x2f\xfd\x24",
        "is a Zstandard archive: unpack it and give the folder (`zstd -d`, `tar --zstd -xf`)",
    ),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive: unpack it and give the folder (`7z x`)"),
    "rar": (b"Rar!\x1a\x07\x01\0", "is a RAR archive: unpack it and give the folder (`unrar x`)"),
    "lz4": (b"\x04\x22\x4d\x18", "is an LZ4 file: unpack it and give the folder (`lz4 -d`)"),
    "lz": (b"LZIP\1", "is an lzip file: unpack it and give the folder (`lzip -d`)"),
    "Z": (b"\x1f\x9d\x90", "is a compress (.Z) file: unpack it and give the folder (`gzip -d`)"),
    "deb": (b"!<arch>\n", "is an ar archive: unpack it and give the folder (`ar x`)"),
    "cpio": (b"070701", "is a cpio archive: unpack it and give the folder (`cpio -id`)"),
    "sqsh": (b"hsqs", "is a SquashFS image: unpack it and give the folder (`unsquashfs`)"),
    "h5": (_hdf5(), f"is an HDF5 file: {AS_ARRAY}"),
    "mat": (b"MATLAB 5.0 MAT-file, Platform", f"is a MATLAB file: {AS_ARRAY}"),
    "parquet": (b"PAR1\x15\x04", f"is a Parquet file: {AS_ARRAY}"),
    "arrow": (b"ARROW1\0\0", f"is an Arrow file: {AS_ARRAY}"),
    "mdb": (
        bytes(16) + b"\xde\xc0\xef\xbe\1\0\0\0",
        "is an LMDB database: save its images as files, as LSUN's `data.py export` does",
    ),
    "pickle": (pickle.dumps({}), f"is a Python pickle, which could run anything: {AS_ARRAY}"),
    "gz": (gzip.compress(b"x"), "is one file, compressed by gzip, and no tar: unpack it"),
    "bz2": (bz2.compress(b"x"), "is one file, compressed by bzip2, and no tar: unpack it"),
    "xz": (lzma.compress(b"x"), "is one file, compressed by xz, and no tar: unpack it"),
    "png": (_picture(), "is a picture: give the folder that it is in"),
    "z01": (_zip()[:40], f"is a zip without its end: get it again; or if it is one of several parts, {JOIN}"),
    "zip": (_last_part(), f"is one part of a split zip: {JOIN}"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_is_named_with_the_way_round(tmp_path: Path, opened: Opened, kind: str) -> None:
    content, words = REFUSED[kind]
    path = tmp_path / f"photos.{kind}"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        opened(path)
    assert str(caught.value) == f"{path}: {words}"


def test_tfrecords_are_named(tmp_path: Path, opened: Opened, dataset_directory: Path) -> None:
    with pytest.raises(DatasetError, match="holds TFRecords: if they are of `progan dataset` or NVIDIA's"):
        opened(dataset_directory / "things-r02.tfrecords")


def test_what_a_folder_holds_instead_of_pictures_is_named(tmp_path: Path) -> None:
    """As CIFAR-10 comes, and LSUN."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(1, 6):
        (photos / f"data_batch_{number}").write_bytes(pickle.dumps({"data": number}, 2))
    (photos / "data.mdb").write_bytes(REFUSED["mdb"][0])
    (photos / "more.zip").write_bytes(_zip())
    (photos / "readme.html").write_text("<html>")
    with pytest.raises(DatasetError) as caught:
        build_dataset(photos, tmp_path / "out", 8, "crop", lambda stage, done, total: None)
    assert str(caught.value).splitlines() == [
        f"{photos}: holds no pictures",
        f"  5 left out: is a Python pickle, which could run anything: {AS_ARRAY}",
        "  1 left out: is an LMDB database: save its images as files, as LSUN's `data.py export` does",
        "  1 left out: is a zip archive: unpack it",
        "  1 left out: is an HTML page",
    ]


def test_a_pipe_is_no_collection(tmp_path: Path, opened: Opened) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="pipe: is no file: give a folder, a zip or a tar of images"):
        opened(tmp_path / "pipe")


def test_gnu_tar_and_python_agree_on_what_a_tar_is(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(_picture())
    (tmp_path / "photos" / "2.png").symlink_to("1.png")
    (tmp_path / "photos" / "3.png").hardlink_to(tmp_path / "photos" / "1.png")
    subprocess.run(["tar", "-czf", "a.tar.gz", "photos"], cwd=tmp_path, check=True)
    files = opened(tmp_path / "a.tar.gz").files
    assert [file.name for file in files] == ["photos/1.png", "photos/2.png", "photos/3.png"]
    assert {file.read() for file in files} == {_picture()}
