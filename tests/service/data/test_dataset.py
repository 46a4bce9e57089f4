import gc
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.manifest import Manifest


def test_images_come_in_the_order_asked_for(dataset_directory: Path, pixels: NDArray[np.uint8]) -> None:
    dataset = Dataset.open(dataset_directory)
    images = dataset.images(np.array([4, 0, 4]), 16)
    assert images.shape == (3, 16, 16, 3)
    assert images.dtype == np.uint8
    assert (images == pixels[[4, 0, 4]]).all()


def test_a_dataset_tells_what_it_is(dataset_directory: Path) -> None:
    dataset = Dataset.open(dataset_directory)
    assert (dataset.name, dataset.resolution, dataset.channels, dataset.count) == ("things", 16, 3, 5)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [[1, 0], [0, 1], [0, 1], [1, 0], [0, 1]]
    assert dataset.label_names == ("round", "square")
    assert dataset.manifest is not None
    assert dataset.manifest.source == "a box of things"


def test_images_may_be_changed_without_touching_the_file(dataset_directory: Path, pixels: NDArray[np.uint8]) -> None:
    dataset = Dataset.open(dataset_directory)
    dataset.images(np.array([0]), 16)[:] = 0
    assert (dataset.images(np.array([0]), 16)[0] == pixels[0]).all()


def test_a_dataset_of_others_has_no_manifest_and_numbers_for_label_names(dataset_directory: Path) -> None:
    (dataset_directory / "dataset.json").unlink()
    dataset = Dataset.open(dataset_directory)
    assert dataset.manifest is None
    assert dataset.label_names == ("0", "1")


def test_a_dataset_without_labels_has_none(dataset_directory: Path) -> None:
    (dataset_directory / "dataset.json").unlink()
    (dataset_directory / "things-rxx.labels").unlink()
    dataset = Dataset.open(dataset_directory)
    assert dataset.labels is None
    assert dataset.label_names == ()


def test_a_manifest_written_by_a_newer_release_is_read(dataset_directory: Path) -> None:
    path = dataset_directory / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mood": "cheerful"}))
    assert Dataset.open(dataset_directory).manifest is not None


@pytest.mark.parametrize("channels", [1, 3])
def test_the_two_features_of_a_record_may_stand_in_any_order(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, channels, 4, 4), dtype=np.uint8)
    payloads = [_payload(image, shape_first=index % 3 == 1) for index, image in enumerate(images)]
    _write(tmp_path / "mixed-r02.tfrecords", payloads)
    dataset = Dataset.open(tmp_path)
    assert dataset.channels == channels
    assert (dataset.images(np.arange(40), 4) == images.transpose(0, 2, 3, 1)).all()


def test_reading_and_building_are_imported_without_tensorflow() -> None:
    modules = ("dataset", "order", "making.build", "making.demo")
    imports = "; ".join(f"import progan_service.data.{module}" for module in modules)
    check = f"import sys; {imports}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: does not exist: give a dataset directory"):
        Dataset.open(tmp_path / "nowhere")


def test_a_file_is_no_dataset_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="file: is a file: give a dataset directory"):
        Dataset.open(tmp_path / "file")


def test_a_directory_of_something_else_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(DatasetError, match=r"no dataset: it holds no NAME-rNN\.tfrecords files; make one with"):
        Dataset.open(tmp_path)


def test_two_datasets_in_one_directory_are_refused(dataset_directory: Path) -> None:
    (dataset_directory / "other-r02.tfrecords").touch()
    with pytest.raises(DatasetError, match=r"several datasets \(other, things\): a directory holds one"):
        Dataset.open(dataset_directory)


def test_a_missing_level_is_named(dataset_directory: Path) -> None:
    (dataset_directory / "things-r03.tfrecords").unlink()
    with pytest.raises(DatasetError, match=r"things-r03\.tfrecords is missing: every level from 4x4"):
        Dataset.open(dataset_directory)


def test_a_missing_top_level_is_noticed_by_the_manifest(dataset_directory: Path) -> None:
    (dataset_directory / "things-r04.tfrecords").unlink()
    with pytest.raises(DatasetError, match="promises 5 images up to 16 pixels, the files hold 5 up to 8"):
        Dataset.open(dataset_directory)


def test_a_level_below_4x4_is_refused(dataset_directory: Path) -> None:
    (dataset_directory / "things-r01.tfrecords").touch()
    with pytest.raises(DatasetError, match=r"things-r01\.tfrecords is below r02: levels begin at 4x4"):
        Dataset.open(dataset_directory)


def test_a_truncated_level_is_named(dataset_directory: Path) -> None:
    path = dataset_directory / "things-r04.tfrecords"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"things-r04\.tfrecords: 4114 bytes are no whole number of records of 823"):
        Dataset.open(dataset_directory)


def test_a_level_that_lost_whole_records_is_named(dataset_directory: Path) -> None:
    path = dataset_directory / "things-r02.tfrecords"
    path.write_bytes(path.read_bytes()[:-98])
    with pytest.raises(DatasetError, match=r"things-r02\.tfrecords: 4 images of 3 channels, but things-r04"):
        Dataset.open(dataset_directory)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty: a level holds at least one image"),
        (b"short", "the length of a record does not fit its checksum: it is damaged or no uncompressed TFRecord file"),
        (b"\x1f\x8b" + bytes(range(200)), "the length of a record does not fit its checksum"),
    ],
)
def test_a_foreign_file_is_named(dataset_directory: Path, content: bytes, message: str) -> None:
    (dataset_directory / "things-r03.tfrecords").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"things-r03\.tfrecords: {message}"):
        Dataset.open(dataset_directory)


@pytest.mark.parametrize("payload", [b"", b"\xff\xff\xff\xff"])
def test_records_of_something_else_are_refused(dataset_directory: Path, payload: bytes) -> None:
    _write(dataset_directory / "things-r03.tfrecords", [payload])
    with pytest.raises(DatasetError, match=r"things-r03\.tfrecords: record 0: a record is no tf\.Example of an image"):
        Dataset.open(dataset_directory)


def test_a_level_of_another_resolution_is_refused(dataset_directory: Path) -> None:
    content = (dataset_directory / "things-r04.tfrecords").read_bytes()
    (dataset_directory / "things-r03.tfrecords").write_bytes(content)
    with pytest.raises(DatasetError, match=r"images have shape \(3, 16, 16\) \(C,H,W\): the file name promises"):
        Dataset.open(dataset_directory)


def test_a_record_broken_in_the_middle_of_a_file_is_counted_out(dataset_directory: Path) -> None:
    path = dataset_directory / "things-r02.tfrecords"
    content = bytearray(path.read_bytes())
    content[2 * 98 + 12] ^= 0x40  # the first tag of record 2
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"things-r02\.tfrecords: record 2: "):
        Dataset.open(dataset_directory)


def test_a_record_with_a_foreign_length_is_counted_out(dataset_directory: Path) -> None:
    path = dataset_directory / "things-r02.tfrecords"
    content = bytearray(path.read_bytes())
    content[3 * 98] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"things-r02\.tfrecords: record 3 has another length than record 0"):
        Dataset.open(dataset_directory)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.zeros((4, 2), np.float32), r"float32 \[4, 2\]"),
        (np.zeros(5, np.float32), r"float32 \[5\]"),
        (np.zeros((5, 2), np.int64), r"int64 \[5, 2\]"),
    ],
)
def test_labels_that_do_not_fit_are_refused(dataset_directory: Path, labels: NDArray[np.generic], found: str) -> None:
    with (dataset_directory / "things-rxx.labels").open("wb") as file:
        np.save(file, labels)
    with pytest.raises(DatasetError, match=rf"{found} found, labels are float32 \[5, L\], one row per image"):
        Dataset.open(dataset_directory)


def test_labels_must_be_finite(dataset_directory: Path) -> None:
    with (dataset_directory / "things-rxx.labels").open("wb") as file:
        np.save(file, np.full((5, 2), np.nan, np.float32))
    with pytest.raises(DatasetError, match="labels hold a NaN or an infinity"):
        Dataset.open(dataset_directory)


def test_labels_are_never_unpickled(dataset_directory: Path) -> None:
    with (dataset_directory / "things-rxx.labels").open("wb") as file:
        np.save(file, np.array([[print]], object))
    with pytest.raises(DatasetError, match=r"labels are a float32 array in \.npy format"):
        Dataset.open(dataset_directory)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (5, (",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 2)}" % 10**12,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 2)}" % 10**30,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 2)}",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (5, 2)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (5L, 2)}",
    ],
)
def test_labels_with_a_damaged_header_are_refused(dataset_directory: Path, header: bytes) -> None:
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(40)
    (dataset_directory / "things-rxx.labels").write_bytes(content)
    with pytest.raises(DatasetError, match=r"labels are a float32 array in \.npy format"):
        Dataset.open(dataset_directory)


def test_labels_take_no_more_memory_than_their_file(dataset_directory: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (5, 100000000000)}"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(40)
    (dataset_directory / "things-rxx.labels").write_bytes(content)
    with pytest.raises(DatasetError, match="its header promises 2000000000000 bytes of data, there are 40$"):
        Dataset.open(dataset_directory)


def test_label_names_must_be_as_many_as_the_columns(dataset_directory: Path) -> None:
    with (dataset_directory / "things-rxx.labels").open("wb") as file:
        np.save(file, np.zeros((5, 3), np.float32))
    with pytest.raises(DatasetError, match="names 2 labels, the label file has 3 columns"):
        Dataset.open(dataset_directory)


@pytest.mark.parametrize("content", ["{", "[]", '{"source": "x"}', '"text"'])
def test_a_broken_manifest_is_named(dataset_directory: Path, content: str) -> None:
    (dataset_directory / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=r"dataset\.json: cannot be read as a dataset's provenance"):
        Dataset.open(dataset_directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_count": "5"}, "image_count is '5': must be a whole number"),
        ({"label_names": "round"}, "label_names is 'round': must be a list"),
        ({"label_names": [1, 2]}, r"label_names\[0\] is 1: must be text"),
        ({"license_text": ["MIT"]}, r"license_text is \['MIT'\]: must be text or null"),
    ],
)
def test_a_manifest_with_a_value_of_another_type_is_refused(
    dataset_directory: Path, change: dict[str, Any], message: str
) -> None:
    path = dataset_directory / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=f"cannot be read as a dataset's provenance: {message}$"):
        Dataset.open(dataset_directory)


def test_a_long_licence_of_an_earlier_build_is_cut(dataset_directory: Path) -> None:
    path = dataset_directory / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"license_text": "MIT\r\n" * 20_000}))
    manifest = Dataset.open(dataset_directory).manifest
    assert manifest is not None
    assert manifest.license_text is not None
    assert manifest.license_text.startswith("MIT\nMIT\n")
    assert manifest.license_text.endswith(" ... (cut: the licence is longer than 64 KiB)")


def test_a_manifest_of_a_higher_version_is_refused_by_name(dataset_directory: Path) -> None:
    path = dataset_directory / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(
        DatasetError, match=r"dataset\.json: was written by a newer release \(format_version 2; this release reads 1\)"
    ):
        Dataset.open(dataset_directory)


def test_a_manifest_of_other_channels_is_refused(dataset_directory: Path) -> None:
    path = dataset_directory / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channels": 1}))
    with pytest.raises(DatasetError, match=r"dataset\.json promises 1 channels, the files hold 3: they are of another"):
        Dataset.open(dataset_directory)


def test_levels_that_all_lost_a_record_are_noticed_by_the_manifest(dataset_directory: Path) -> None:
    for log2, record_bytes in ((2, 98), (3, 247), (4, 823)):
        path = dataset_directory / f"things-r{log2:02d}.tfrecords"
        path.write_bytes(path.read_bytes()[:-record_bytes])
    with pytest.raises(
        DatasetError, match=r"dataset\.json promises 5 images up to 16 pixels, the files hold 4 up to 16"
    ):
        Dataset.open(dataset_directory)


# What happens to files while they are read


def test_a_damaged_pixel_is_found_when_it_is_read(dataset_directory: Path, pixels: NDArray[np.uint8]) -> None:
    path = dataset_directory / "things-r03.tfrecords"
    content = bytearray(path.read_bytes())
    content[2 * 247 + 100] ^= 4
    path.write_bytes(content)
    dataset = Dataset.open(dataset_directory)
    assert (dataset.images(np.array([0, 1, 2, 3, 4]), 16) == pixels).all()
    with pytest.raises(
        DatasetError, match=rf"^{path}: record 2 does not fit its checksum: it is damaged, or was changed"
    ):
        dataset.images(np.array([0, 2]), 8)


def test_a_file_that_is_cut_while_it_is_in_use_is_named(dataset_directory: Path) -> None:
    dataset = Dataset.open(dataset_directory)
    path = dataset_directory / "things-r04.tfrecords"
    with path.open("r+b") as file:
        file.truncate(1000)
    assert dataset.images(np.array([0]), 16).shape == (1, 16, 16, 3)
    with pytest.raises(
        DatasetError, match=rf"^{path}: ends after 1000 of 4115 bytes: it was cut while it was in use; "
    ):
        dataset.images(np.array([1]), 16)


def test_a_file_that_is_rewritten_while_it_is_in_use_is_named(dataset_directory: Path) -> None:
    dataset = Dataset.open(dataset_directory)
    path = dataset_directory / "things-r02.tfrecords"
    records = [path.read_bytes()[start : start + 98] for start in range(0, 490, 98)]
    path.write_bytes(b"".join([records[1], records[0], *records[2:]]))  # each is whole, with its checksum
    with pytest.raises(DatasetError, match=rf"^{path}: record 0 does not fit its checksum: "):
        dataset.images(np.array([2, 0, 1]), 4)


def test_a_dataset_that_is_removed_while_it_is_in_use_can_be_read(
    dataset_directory: Path, pixels: NDArray[np.uint8]
) -> None:
    dataset = Dataset.open(dataset_directory)
    shutil.rmtree(dataset_directory)
    assert (dataset.images(np.array([3]), 16)[0] == pixels[3]).all()


def test_a_closed_dataset_leaves_no_file_open(dataset_directory: Path) -> None:
    gc.collect()  # files that earlier tests left to the garbage collector
    before = os.listdir("/proc/self/fd")
    dataset = Dataset.open(dataset_directory)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 3
    del dataset
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(before)


# Which dataset it is


def test_the_digest_of_a_level_is_that_of_its_checksums(dataset_directory: Path) -> None:
    content = (dataset_directory / "things-r03.tfrecords").read_bytes()
    checksums = b"".join(content[247 * index + 243 : 247 * index + 247] for index in range(5))
    assert Dataset.open(dataset_directory).digests["8x8"] == hashlib.sha256(checksums).hexdigest()


def test_digests_tell_which_part_differs(dataset_directory: Path, pixels: NDArray[np.uint8]) -> None:
    before = Dataset.open(dataset_directory).digests
    assert before.keys() == {"4x4", "8x8", "16x16", "labels"}

    path = dataset_directory / "things-r03.tfrecords"
    records = [path.read_bytes()[start : start + 247] for start in range(0, 1235, 247)]
    path.write_bytes(b"".join([*records[:3], records[4], records[3]]))
    assert _changed(before, dataset_directory) == {"8x8"}

    with (dataset_directory / "things-rxx.labels").open("wb") as file:
        np.save(file, np.eye(2, dtype=np.float32)[[1, 0, 0, 1, 0]])
    assert _changed(before, dataset_directory) == {"8x8", "labels"}


def _changed(before: dict[str, str], directory: Path) -> set[str]:
    after = Dataset.open(directory).digests
    return {part for part in before if before[part] != after[part]}


def test_a_resolution_without_a_level_is_refused(dataset_directory: Path) -> None:
    with pytest.raises(DatasetError, match=r"no images of resolution 32: it has \[4, 8, 16\]"):
        Dataset.open(dataset_directory).images(np.array([0]), 32)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_the_dataset_is_refused(dataset_directory: Path, index: int) -> None:
    with pytest.raises(DatasetError, match=rf"no image {index}: indices lie in \[0, 5\)"):
        Dataset.open(dataset_directory).images(np.array([0, index]), 4)


def _payload(image: NDArray[np.uint8], *, shape_first: bool) -> bytes:
    """A tf.Example of a (C,H,W) image in the wire format of protobuf."""
    shape = _field(1, b"shape") + _field(2, _field(3, _field(1, bytes(image.shape))))
    data = _field(1, b"data") + _field(2, _field(1, _field(1, image.tobytes())))
    entries = (shape, data) if shape_first else (data, shape)
    return _field(1, b"".join(_field(1, entry) for entry in entries))


def _write(path: Path, payloads: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)


def _field(number: int, content: bytes) -> bytes:
    assert len(content) < 128, "a length of one byte"
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_source_whose_name_is_not_utf_8_is_noted(tmp_path: Path) -> None:
    Manifest("caf\udce9", 1, 4).write(tmp_path)
    read = Manifest.read(tmp_path)
    assert read
    assert read.source == "caf\udce9"
