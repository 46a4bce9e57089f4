"""`progan dataset verify` reads every image."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.data.making.records import write_dataset
from progan_service.data.manifest import Manifest
from progan_service.data.verify import verify_dataset


def verified(directory: Path) -> list[tuple[str, int, int]]:
    steps: list[tuple[str, int, int]] = []
    verify_dataset(directory, lambda *step: steps.append(step))
    return steps


def test_a_whole_dataset_is_said_to_be_whole(dataset_directory: Path, progan: Callable[..., Any]) -> None:
    assert verified(dataset_directory)[-1] == ("Verifying", 5, 5)
    ended = progan("dataset", "verify", dataset_directory)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        f"{dataset_directory}: 5 images, 4x4 to 16x16, 2 labels: all records are whole and all sizes agree\n"
    )


def test_every_damaged_record_is_named(dataset_directory: Path, progan: Callable[..., Any]) -> None:
    for log2, position in ((3, 4 * 247 + 60), (4, 823 + 400)):
        path = dataset_directory / f"things-r{log2:02d}.tfrecords"
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
    ended = progan("dataset", "verify", dataset_directory)
    assert (ended.code, ended.out) == (78, "")
    lines = ended.err.splitlines()
    assert lines[0] == f"progan: {dataset_directory}: 2 records are wrong: make it again"
    assert [re.sub(" does not fit.*", "", line) for line in lines[1:]] == [
        f"  {dataset_directory}/things-r04.tfrecords: record 1",
        f"  {dataset_directory}/things-r03.tfrecords: record 4",
    ]


def test_levels_of_other_images_are_named(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for directory, images in ((one, pixels), (other, pixels[[0, 2, 1, 3, 4]])):
        directory.mkdir()
        write_dataset(directory, "things", images, Manifest("things", 5, 16))
    (other / "things-r03.tfrecords").replace(one / "things-r03.tfrecords")
    with pytest.raises(DatasetError) as refused:
        verify_dataset(one, lambda *_: None)
    means = pixels.reshape(5, 8, 2, 8, 2, 3).mean(axis=(2, 4))
    difference = np.abs(np.rint(means[1]) - np.rint(means[2])).max()
    assert str(refused.value).splitlines() == [
        f"{one}: 2 records are wrong: make it again",
        *(
            f"  {one}/things-r03.tfrecords: record {index} shows another image than things-r04.tfrecords: scaled down, "
            f"they differ by up to {difference:.0f} of 255"
            for index in (1, 2)
        ),
    ]


@pytest.mark.parametrize(("offset", "wrong"), [(1, False), (2, True)])
def test_means_may_be_rounded_in_another_way(tmp_path: Path, offset: int, wrong: bool) -> None:
    for size, value in ((8, 100), (4, 100 + offset)):
        (tmp_path / f"{size}").mkdir()
        image = np.full((1, size, size, 3), value, np.uint8)
        write_dataset(tmp_path / f"{size}", "grey", image, Manifest("grey", 1, size))
    (tmp_path / "4" / "grey-r02.tfrecords").replace(tmp_path / "8" / "grey-r02.tfrecords")
    if wrong:
        with pytest.raises(DatasetError, match="differ by up to 2 of 255"):
            verify_dataset(tmp_path / "8", lambda *_: None)
    else:
        verify_dataset(tmp_path / "8", lambda *_: None)


def test_of_many_problems_twenty_are_listed(tmp_path: Path) -> None:
    write_dataset(tmp_path, "black", np.zeros((30, 4, 4, 3), np.uint8), Manifest("black", 30, 4))
    path = tmp_path / "black-r02.tfrecords"
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(30, 98).copy()
    records[:25, 70] ^= 1
    path.write_bytes(records.tobytes())
    with pytest.raises(DatasetError) as refused:
        verify_dataset(tmp_path, lambda *_: None)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"{tmp_path}: 25 records are wrong: make it again"
    assert len(lines) == 22
    assert lines[-1] == "  … and 5 more"


def test_what_cannot_be_opened_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset: it holds no"):
        verify_dataset(tmp_path, lambda *_: None)
