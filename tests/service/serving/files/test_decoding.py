"""Pictures of callers become pixels of the size of the model."""

import io

import numpy as np
import pytest
from display_p3 import P3_RED, SRGB_RED, p3_profile
from PIL import Image

from progan_service.serving.errors import InvalidArgument
from progan_service.serving.files.decoding import decoded

RED, GREEN, WHITE = [255, 0, 0], [0, 255, 0], [255, 255, 255]


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_halves(width: int = 8, height: int = 4) -> Image.Image:
    """Red on the left, green on the right."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 255, 0), (width // 2, 0, width, height))
    return image


def test_the_centre_is_cut_out() -> None:
    pixels = decoded(file(two_halves()), 4, 3, "crop")
    assert (pixels.shape, pixels.dtype) == ((4, 4, 3), np.uint8)
    assert (pixels[0, 0].tolist(), pixels[0, 3].tolist()) == (RED, GREEN)


def test_or_white_borders_are_added_or_it_is_stretched() -> None:
    padded = decoded(file(two_halves()), 8, 3, "pad")
    assert (padded[0, 0].tolist(), padded[3, 0].tolist(), padded[3, 7].tolist()) == (WHITE, RED, GREEN)
    stretched = decoded(file(two_halves()), 8, 3, "stretch")
    assert (stretched[0, 0].tolist(), stretched[7, 7].tolist()) == (RED, GREEN)


def test_pixels_of_the_right_size_stay_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(decoded(file(Image.fromarray(pixels)), 8, 3, "crop"), pixels)
    np.testing.assert_array_equal(decoded(file(Image.fromarray(pixels), "WEBP", lossless=True), 8, 3, "pad"), pixels)


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = decoded(file(two_halves(8, 8), exif=exif), 8, 3, "crop")
    assert (pixels[0, 0].tolist(), pixels[0, 7].tolist()) == (GREEN, RED)


def test_what_is_transparent_becomes_white() -> None:
    assert (decoded(file(Image.new("RGBA", (4, 4), (255, 0, 0, 0))), 4, 3, "crop") == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0])
    assert (decoded(file(palette, transparency=0), 4, 3, "crop") == 255).all()


def test_a_grey_model_gets_grey() -> None:
    assert decoded(file(Image.new("RGB", (4, 4), (255, 0, 0))), 4, 1, "crop").tolist() == [[[76]] * 4] * 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_colours_of_a_telephone_are_converted_to_srgb(kind: str) -> None:
    photo = file(Image.new("RGB", (64, 64), P3_RED), kind, icc_profile=p3_profile(), quality=95)
    assert decoded(photo, 4, 3, "crop")[0, 0].tolist() == pytest.approx(SRGB_RED, abs=3)


def test_inks_and_16_bits_are_shown_as_a_viewer_shows_them() -> None:
    inks = file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert decoded(inks, 4, 3, "crop")[0, 0].tolist() == pytest.approx(RED, abs=2)
    deep = file(Image.fromarray(np.full((8, 8), 0x8080, np.uint16)))
    assert decoded(deep, 4, 3, "crop")[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; must be a PNG, JPEG or WebP file"),
        (file(two_halves(), "GIF"), "is GIF; must be a PNG, JPEG or WebP file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC; must be a PNG, JPEG or WebP file"),
        (b"%PDF-1.7 private", "is a PDF document; must be a PNG, JPEG or WebP file"),
        (b"\xff\x0aprivate", "is a JPEG XL picture, which is not read: save it as PNG or JPEG"),
        (file(two_halves())[:-30], "is a damaged PNG"),
        (file(two_halves())[:20], "is a damaged PNG"),
    ],
)
def test_what_is_no_picture_is_refused_without_its_content(content: bytes, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^picture: {problem}$"):
        decoded(content, 4, 3, "crop")


def test_a_size_beyond_the_limit_is_refused_before_it_is_decoded() -> None:
    header = file(Image.new("L", (5000, 1)))[:60]  # the pixels are missing
    with pytest.raises(InvalidArgument, match="has 5000 x 1 pixels; must have at most 4096 x 4096"):
        decoded(header, 4, 3, "crop")


def test_a_large_jpeg_looks_like_its_smaller_self() -> None:
    gradient = Image.linear_gradient("L").convert("RGB")
    small, large = (decoded(file(gradient.resize((side, side)), "JPEG"), 16, 3, "crop") for side in (48, 2000))
    assert np.abs(small.astype(int) - large).max() <= 2
