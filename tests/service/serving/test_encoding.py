"""Pixels become picture files."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from progan_service.serving.encoding import Encoding, encode


def gradient(channels: int) -> NDArray[np.uint8]:
    """Two 16x16 images [2, 16, 16, C], the second the first turned upside down."""
    shades = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(channels, axis=-1)
    return np.stack([shades, shades[::-1]])


def decoded(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png_keeps_every_pixel_of_every_image_in_order(channels: int, mode: str) -> None:
    pixels = gradient(channels)
    images = [decoded(file) for file in encode(pixels, Encoding.PNG)]
    assert [image.mode for image in images] == [mode, mode]
    for image, expected in zip(images, pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(image).reshape(16, 16, channels), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.WEBP])
def test_lossy_files_show_nearly_the_same_picture(encoding: Encoding, channels: int) -> None:
    image = decoded(encode(gradient(channels), encoding)[0])
    assert image.format == encoding.value
    shown = np.asarray(image.convert("L"), np.int16)
    assert np.abs(shown - gradient(1)[0, ..., 0]).mean() < 4


@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.WEBP])
def test_higher_quality_takes_more_bytes(encoding: Encoding) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    low, high = (len(encode(noise, encoding, quality)[0]) for quality in (10, 95))
    assert low < high


@pytest.mark.parametrize("encoding", [Encoding.PNG, Encoding.JPEG, Encoding.WEBP])
def test_the_same_pixels_give_the_same_bytes(encoding: Encoding) -> None:
    assert encode(gradient(3), encoding) == encode(gradient(3), encoding)


def test_only_lossy_encodings_take_a_quality() -> None:
    assert [encoding.value for encoding in Encoding if encoding.takes_quality] == ["JPEG", "WEBP"]
