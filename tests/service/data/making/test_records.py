from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making.pyramid import box_pyramid
from progan_service.data.making.records import check_resolution, level_records, write_dataset, write_levels
from progan_service.data.manifest import Manifest


@pytest.mark.parametrize(
    ("log2", "record_bytes", "cifar10_bytes"),
    [(2, 98, 4_900_000), (3, 247, 12_350_000), (4, 823, 41_150_000), (5, 3127, 156_350_000)],
)
def test_files_are_as_large_as_those_of_cifar10(
    tmp_path: Path, log2: int, record_bytes: int, cifar10_bytes: int
) -> None:
    write_dataset(tmp_path, "cifar", np.zeros((2, 32, 32, 3), np.uint8), Manifest("zeros", 2, 32))
    assert (tmp_path / f"cifar-r{log2:02d}.tfrecords").stat().st_size == 2 * record_bytes
    assert 50_000 * record_bytes == cifar10_bytes


def test_a_label_file_is_plain_npy(tmp_path: Path) -> None:
    labels = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    write_dataset(tmp_path, "x", np.zeros((3, 4, 4, 3), np.uint8), Manifest("zeros", 3, 4), labels)
    assert (tmp_path / "x-rxx.labels").stat().st_size == 128 + 3 * 2 * 4
    assert np.load(tmp_path / "x-rxx.labels").tolist() == [[1, 0], [0, 1], [0, 1]]


def test_tensorflow_reads_the_same_images(dataset_directory: Path) -> None:
    dataset = Dataset.open(dataset_directory)
    features = {"shape": tf.io.FixedLenFeature([3], tf.int64), "data": tf.io.FixedLenFeature([], tf.string)}
    for log2 in (2, 3, 4):
        read = []
        for record in tf.data.TFRecordDataset(str(dataset_directory / f"things-r{log2:02d}.tfrecords")):
            example = tf.io.parse_single_example(record, features)
            chw = tf.reshape(tf.io.decode_raw(example["data"], tf.uint8), example["shape"])
            read.append(tf.transpose(chw, [1, 2, 0]).numpy())
        assert (dataset.images(np.arange(5), 2**log2) == np.stack(read)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [4, 8, 256])
def test_the_bytes_are_those_that_tensorflow_writes(tmp_path: Path, resolution: int, channels: int) -> None:
    image = np.random.default_rng(2).integers(0, 256, (resolution, resolution, channels), dtype=np.uint8)
    for log2, level in zip(range(resolution.bit_length() - 1, 1, -1), box_pyramid(image), strict=True):
        chw = level.transpose(2, 0, 1)
        features = {
            "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=chw.shape)),
            "data": tf.train.Feature(bytes_list=tf.train.BytesList(value=[chw.tobytes()])),
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        with tf.io.TFRecordWriter(str(tmp_path / f"theirs-r{log2:02d}.tfrecords")) as writer:
            writer.write(example.SerializeToString(deterministic=True))
    write_levels(tmp_path, "ours", resolution, [level_records(image)])
    for theirs in sorted(tmp_path.glob("theirs-*")):
        assert theirs.read_bytes() == (tmp_path / theirs.name.replace("theirs", "ours")).read_bytes()


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    contents = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        write_dataset(tmp_path / run, "x", images, Manifest("noise", 20, 4))
        contents.append((tmp_path / run / "x-r02.tfrecords").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("resolution", [-4, 0, 1, 2, 3, 6, 100, 2048])
def test_resolutions_other_than_powers_of_two_from_4_to_1024_are_refused(resolution: int) -> None:
    with pytest.raises(DatasetError, match=f"resolution is {resolution}: it must be a power of two from 4 to 1024"):
        check_resolution(resolution)
