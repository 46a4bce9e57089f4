import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.errors import DatasetError
from progan_service.data.making.collection.files import Collection, LeftOut

Opened = Callable[[Path], Collection]
RULE = r"must be uint8 \[N, H, W\], \[N, H, W, 1\], \[N, H, W, 3\] or \[N, H, W, 4\], with pixels from 0 to 255$"


def _noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def _pixels(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)))


def _idx(images: NDArray[np.uint8]) -> bytes:
    """The file of http://yann.lecun.com/exdb/mnist: 0, 0, the type, the number of sides, the sides, the bytes."""
    return bytes([0, 0, 8, images.ndim]) + b"".join(side.to_bytes(4) for side in images.shape) + images.tobytes()


@pytest.mark.parametrize("shape", [(12, 5, 4), (12, 5, 4, 3), (12, 5, 4, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_npy_is_its_images(tmp_path: Path, opened: Opened, shape: tuple[int, ...], order: Any) -> None:
    images = _noise(*shape)
    np.save(tmp_path / "a.npy", np.asarray(images, order=order))
    files = opened(tmp_path / "a.npy").files
    assert [file.name for file in files] == [f"{index:02d}.png" for index in range(12)]
    assert (np.stack([_pixels(file.read()) for file in files]) == images).all()


def test_grey_images_may_have_a_side_of_one(tmp_path: Path, opened: Opened) -> None:
    images = _noise(2, 5, 4, 1)
    np.save(tmp_path / "a.npy", images)
    assert (_pixels(opened(tmp_path / "a.npy").files[1].read()) == images[1, :, :, 0]).all()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_idx_file_is_its_images(tmp_path: Path, opened: Opened, pack: Callable[[bytes], bytes]) -> None:
    images = _noise(3, 28, 28)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(pack(_idx(images)))
    files = opened(tmp_path / "train-images-idx3-ubyte").files
    assert [file.name for file in files] == ["0.png", "1.png", "2.png"]
    assert (np.stack([_pixels(file.read()) for file in files]) == images).all()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_the_images_of_its_arrays(tmp_path: Path, opened: Opened, save: Callable[..., None]) -> None:
    """As MedMNIST has them."""
    train, test = _noise(2, 5, 4, 3), _noise(1, 5, 4, 3)
    save(tmp_path / "a.npz", train_images=train, test_images=test, train_labels=np.zeros((2, 1), np.uint8))
    collection = opened(tmp_path / "a.npz")
    assert [file.name for file in collection.files] == ["test_images/0.png", "train_images/0.png", "train_images/1.png"]
    assert (_pixels(collection.files[2].read()) == train[1]).all()
    assert collection.left_out == [LeftOut("train_labels", "is an array of uint8 [2, 1]")]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), r"is an array of float32 \[2, 4, 4, 3\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"is an array of uint8 \[2, 3, 8, 8\]"),
        (np.zeros(2, np.uint8), r"is an array of uint8 \[2\]"),
        (np.zeros((0, 4, 4), np.uint8), r"is an array of uint8 \[0, 4, 4\]"),
        (np.array([{}]), "is an array of Python objects, which are not read"),
    ],
)
def test_another_array_is_refused(tmp_path: Path, opened: Opened, array: NDArray[Any], words: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DatasetError, match=f"a.npy: {words}: {RULE}"):
        opened(tmp_path / "a.npy")


def test_labels_of_mnist_are_refused(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "labels.gz").write_bytes(gzip.compress(_idx(np.zeros(5, np.uint8))))
    with pytest.raises(DatasetError, match=rf"labels.gz: is an array of uint8 \[5\]: {RULE}"):
        opened(tmp_path / "labels.gz")


@pytest.mark.parametrize("name", ["a.npy", "a.idx"])
def test_an_array_that_is_cut_off_is_refused(tmp_path: Path, opened: Opened, name: str) -> None:
    images = _noise(3, 28, 28)
    np.save(tmp_path / "a.npy", images)
    (tmp_path / "a.idx").write_bytes(_idx(images))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    with pytest.raises(DatasetError, match=rf"{name}: .*: the array of shape \[3, 28, 28\] is cut off$"):
        opened(tmp_path / name)


def test_an_array_that_promises_more_than_any_memory_is_refused(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "a.idx").write_bytes(b"\0\0\x08\x03" + b"\xff" * 12)
    with pytest.raises(DatasetError, match=r"the array of shape \[4294967295, 4294967295, 4294967295\] is cut off$"):
        opened(tmp_path / "a.idx")
