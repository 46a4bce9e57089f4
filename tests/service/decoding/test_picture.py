import io

import numpy as np
import pytest
from PIL import Image

from progan_service.decoding.errors import PictureError
from progan_service.decoding.picture import decode_rgb


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


def test_what_is_transparent_shows_the_background() -> None:
    clear, half = (Image.new("RGBA", (4, 4), (200, 100, 50, alpha)) for alpha in (0, 51))
    assert np.asarray(decode_rgb(_encoded(clear), "black"))[0, 0].tolist() == [0, 0, 0]
    assert np.asarray(decode_rgb(_encoded(half), "black"))[0, 0].tolist() == [40, 20, 10]


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


def _noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF"])
def test_half_a_picture_is_refused(file_format: str) -> None:
    content = _encoded(_noise(), file_format)
    with pytest.raises(PictureError, match="cannot be decoded"):
        decode_rgb(content[: len(content) // 2])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_marker_is_whole(missing: int, progressive: bool) -> None:
    """Other decoders show it: the marker holds no pixels."""
    content = _encoded(_noise(), "JPEG", progressive=progressive)
    assert decode_rgb(content[:-missing]).tobytes() == decode_rgb(content).tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [40, 200])
def test_a_jpeg_without_its_last_pixels_is_refused(missing: int, progressive: bool) -> None:
    content = _encoded(_noise(), "JPEG", progressive=progressive)
    with pytest.raises(PictureError, match="cannot be decoded: image file is truncated"):
        decode_rgb(content[:-missing])


def test_what_follows_a_jpeg_does_no_harm() -> None:
    content = _encoded(_noise(), "JPEG")
    assert decode_rgb(content + bytes(100)).tobytes() == decode_rgb(content).tobytes()


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(PictureError, match="is a PFM picture, which is not read"):
        decode_rgb(_encoded(Image.new("F", (4, 4), 0.5), "PPM"))


def test_of_a_moving_png_webp_or_avif_the_first_frame_is_taken() -> None:
    red, blue = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))
    for file_format, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 100})):
        pixel = _first_pixel(_encoded(red, file_format, save_all=True, append_images=[blue], **options))
        assert pixel == pytest.approx([200, 0, 0], abs=2)


@pytest.mark.parametrize("maximum", [1, 15, 100, 1000, 65535])
def test_a_pgm_of_any_maximum_is_spread_over_black_to_white(maximum: int) -> None:
    pixels = np.array([maximum, 0, 0, 0], "u1" if maximum < 256 else ">u2")
    assert _first_pixel(b"P5 2 2 %d\n" % maximum + pixels.tobytes()) == [255, 255, 255]


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
