import io

import numpy as np
import pytest
from PIL import Image

from progan_service.data.making.picture import PictureError, check_size, decode_rgb, to_square


def _encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def _first_pixel(content: bytes) -> list[int]:
    image = decode_rgb(content)
    assert image.mode == "RGB"
    return [int(value) for value in np.asarray(image)[0, 0]]


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("1", 1, [255, 255, 255]),
        ("L", 90, [90, 90, 90]),
        ("LA", (90, 0), [255, 255, 255]),
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("I;16", 257 * 90, [90, 90, 90]),
    ],
)
def test_every_mode_becomes_rgb_on_white(mode: str, colour: int | tuple[int, ...], rgb: list[int]) -> None:
    assert _first_pixel(_encoded(Image.new(mode, (4, 4), colour))) == rgb


def test_a_palette_becomes_rgb() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 20])
    assert _first_pixel(_encoded(image)) == [200, 10, 20]


def test_a_palette_with_a_transparent_colour_is_composed_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 20])
    assert _first_pixel(_encoded(image, transparency=1)) == [255, 255, 255]
    assert _first_pixel(_encoded(image, "GIF", transparency=1)) == [255, 255, 255]


def test_cmyk_becomes_rgb() -> None:
    assert _first_pixel(_encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")) == [255, 255, 255]


def test_a_pgm_of_16_bits_is_scaled_not_clipped() -> None:
    content = b"P5 4 4 65535\n" + np.full(16, 257 * 90, ">u2").tobytes()
    assert _first_pixel(content) == [90, 90, 90]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA"])
def test_every_common_format_is_read(file_format: str) -> None:
    assert decode_rgb(_encoded(Image.new("RGB", (9, 7)), file_format)).size == (9, 7)


def test_of_a_film_the_first_frame_is_taken() -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert _first_pixel(_encoded(red, "GIF", save_all=True, append_images=[blue])) == [255, 0, 0]


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (6, (0, 1)), (8, (1, 0))]
)
def test_the_camera_was_held_as_exif_says(orientation: int, corner: tuple[int, int]) -> None:
    """The white corner, stored at the top left, ends at this (row, column) corner."""
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.asarray(decode_rgb(_encoded(image, exif=exif)))
    assert upright.shape[:2] == ((6, 4) if orientation in (6, 8) else (4, 6))
    assert upright[-corner[0], -corner[1]].tolist() == [255, 255, 255]


def test_crop_takes_the_centre() -> None:
    image = Image.new("RGB", (12, 4), "black")
    image.paste("white", (4, 0, 8, 4))
    assert (to_square(image, 4, "crop") == 255).all()


def test_pad_keeps_all_and_fills_up_with_white() -> None:
    square = to_square(Image.new("RGB", (8, 4), "black"), 8, "pad")
    assert square.shape == (8, 8, 3)
    assert square[:, 0, 0].tolist() == [255, 255, 0, 0, 0, 0, 255, 255]


def test_a_very_thin_picture_keeps_at_least_one_pixel_of_width() -> None:
    square = to_square(Image.new("RGB", (1, 100), "black"), 4, "pad")
    assert (square == 0).all(axis=(0, 2)).sum() == 1


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (to_square(Image.fromarray(pixels), 8, "crop") == pixels).all()


def test_scaling_down_keeps_the_mean() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert abs(to_square(Image.fromarray(pixels), 8, "crop").mean() - pixels.mean()) < 1.0


def test_a_small_picture_is_told_which_side_is_too_short() -> None:
    image = Image.new("RGB", (40, 30))
    check_size(image, 32, "pad")
    with pytest.raises(PictureError, match="40x30 pixels: the shorter side must be at least 32"):
        check_size(image, 32, "crop")
    with pytest.raises(PictureError, match="40x30 pixels: the longer side must be at least 64"):
        check_size(image, 64, "pad")


def test_a_truncated_picture_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = _encoded(Image.fromarray(noise), "JPEG")
    with pytest.raises(PictureError, match="cannot be decoded: image file is truncated"):
        decode_rgb(content[: len(content) // 2])


def test_a_damaged_exif_block_does_no_harm_and_warns_nobody() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"
    assert _first_pixel(_encoded(Image.new("L", (8, 8), 90), "JPEG", exif=exif)) == [90, 90, 90]


def test_a_postscript_program_is_not_run() -> None:
    with pytest.raises(PictureError, match="is a PostScript file"):
        decode_rgb(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


@pytest.mark.parametrize("side", [11, 20])
def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """Pillow warns at once and refuses at twice the limit; here both are a refusal."""
    content = _encoded(Image.new("RGB", (side, side)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError, match="more than 100 pixels: scale it down first"):
        decode_rgb(content)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(PictureError, match="floating-point pixels: their range is unknown"):
        decode_rgb(_encoded(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_pixels_beyond_16_bits_are_refused() -> None:
    with pytest.raises(PictureError, match="pixels beyond 16 bits"):
        decode_rgb(_encoded(Image.new("I", (4, 4), 70_000), "TIFF"))
