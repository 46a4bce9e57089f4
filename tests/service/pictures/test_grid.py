"""Images in rows, as one picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from progan_service.errors import ConfigError
from progan_service.pictures.grid import image_grid, readable_scale, save_picture


@pytest.mark.parametrize(("resolution", "scale"), [(4, 16), (8, 8), (32, 2), (64, 1), (128, 1), (1024, 1)])
def test_small_images_are_enlarged_to_a_size_that_is_easy_to_see(resolution: int, scale: int) -> None:
    assert readable_scale(resolution) == scale


def test_a_grid_is_filled_row_by_row_and_the_rest_is_white() -> None:
    images = np.array([10, 20, 30, 40, 50], np.uint8).reshape(5, 1, 1, 1)
    assert np.asarray(image_grid(images, columns=3)).tolist() == [[10, 20, 30], [40, 50, 255]]


def test_a_pixel_becomes_a_square() -> None:
    image = np.array([[[[1, 2, 3]]]], np.uint8)
    assert np.asarray(image_grid(image, columns=1, scale=2)).tolist() == [[[1, 2, 3]] * 2] * 2


def test_a_picture_beyond_all_measure_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        image_grid(np.zeros((4, 64, 64, 3), np.uint8), columns=2, scale=100)
    assert str(refused.value) == ("the picture would have 12800x12800 pixels: give a smaller --scale or fewer images")


def test_the_suffix_selects_the_format(tmp_path: Path) -> None:
    for name, found in {"a.png": "PNG", "a.JPG": "JPEG", "a.webp": "WEBP"}.items():
        save_picture(Image.new("RGB", (4, 4)), tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.format == found
    with pytest.raises(ConfigError, match=r"^--output is a.tiff: must end in .png, .jpg, .jpeg or .webp$"):
        save_picture(Image.new("RGB", (4, 4)), Path("a.tiff"))


def test_a_picture_longer_than_its_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.webp: WEBP has at most 16383 pixels a side, not 16384x1$"):
        save_picture(Image.new("L", (16_384, 1)), tmp_path / "a.webp")
    with pytest.raises(ConfigError, match=r"a\.jpg: JPEG has at most 65500 pixels a side, not 65501x1$"):
        save_picture(Image.new("L", (65_501, 1)), tmp_path / "a.jpg")
