"""Pixels become picture files."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from progan_service.serving.files.encoding import LONGEST_TEXT, Encoding, encode, text_bytes, text_chunks


def gradient(channels: int) -> NDArray[np.uint8]:
    """Two 16x16 images [2, 16, 16, C], the second the first turned upside down."""
    shades = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(channels, axis=-1)
    return np.stack([shades, shades[::-1]])


def decoded(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png_keeps_every_pixel(channels: int, mode: str) -> None:
    pixels = gradient(channels)
    images = [decoded(encode(image, Encoding.PNG)) for image in pixels]
    assert [image.mode for image in images] == [mode, mode]
    for image, expected in zip(images, pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(image).reshape(16, 16, channels), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.WEBP])
def test_lossy_files_show_nearly_the_same_picture(encoding: Encoding, channels: int) -> None:
    image = decoded(encode(gradient(channels)[0], encoding))
    assert image.format == encoding.value
    shown = np.asarray(image.convert("L"), np.int16)
    assert np.abs(shown - gradient(1)[0, ..., 0]).mean() < 4


@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.WEBP])
def test_higher_quality_takes_more_bytes(encoding: Encoding) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    low, high = (len(encode(noise, encoding, quality)) for quality in (10, 95))
    assert low < high


def written(text: str) -> str:
    """A text as it is read back from a file."""
    return decoded(encode(gradient(3)[0], Encoding.PNG, texts=text_chunks({"License": text}))).text["License"]


def test_a_png_carries_its_texts_beside_the_same_pixels() -> None:
    plain = decoded(encode(gradient(3)[0], Encoding.PNG))
    marked = decoded(encode(gradient(3)[0], Encoding.PNG, texts=text_chunks({"Software": "progan", "Seed": "7"})))
    assert (plain.text, marked.text) == ({}, {"Software": "progan", "Seed": "7"})
    assert plain.tobytes() == marked.tobytes()


def test_texts_are_added_behind_others_which_stay_as_they_were() -> None:
    common = text_chunks({"Software": "progan"})
    seventh, eighth = (text_chunks({"Seed": seed}, after=common) for seed in "78")
    found = [decoded(encode(gradient(3)[0], Encoding.PNG, texts=texts)).text for texts in (seventh, eighth, common)]
    assert found == [{"Software": "progan", "Seed": "7"}, {"Software": "progan", "Seed": "8"}, {"Software": "progan"}]


@pytest.mark.parametrize(
    "text",
    [
        "CC BY-NC 4.0",
        "",
        "© Karras, señor",
        "許諾 CC0 🍇",
        "one line\nand another\n",
        "許諾\n" * 9_000,
        "MIT\n" * 9_000,
    ],
    ids=["ascii", "empty", "latin-1", "unicode", "lines", "long-unicode", "long"],
)
def test_texts_come_back_as_they_were(text: str) -> None:
    assert written(text) == text


@pytest.mark.parametrize(
    ("text", "comes_back"),
    [
        ("one line\r\nand another\rlast", "one line\nand another\nlast"),
        ("no\0thing", "nothing"),
        ("half of a \ud83c pair", "half of a ? pair"),
        ("許" * 100_000, "許" * (LONGEST_TEXT - 1) + "…"),
    ],
    ids=["line-breaks", "nul", "surrogate", "too-long"],
)
def test_what_a_png_must_not_hold_is_made_fit(text: str, comes_back: str) -> None:
    assert written(text) == comes_back


@pytest.mark.parametrize("text", ["CC0", "許諾", "MIT\n" * 9_000])
def test_the_length_of_texts_is_known_beforehand(text: str) -> None:
    texts = text_chunks({"License": text})
    plain, marked = encode(gradient(3)[0], Encoding.PNG), encode(gradient(3)[0], Encoding.PNG, texts=texts)
    assert len(marked) - len(plain) == text_bytes(texts)


@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.WEBP])
def test_only_png_files_carry_texts(encoding: Encoding) -> None:
    image = gradient(3)[0]
    assert encode(image, encoding, texts=text_chunks({"Seed": "7"})) == encode(image, encoding)


@pytest.mark.parametrize("encoding", [Encoding.PNG, Encoding.JPEG, Encoding.WEBP])
def test_the_same_pixels_give_the_same_bytes(encoding: Encoding) -> None:
    assert encode(gradient(3)[0], encoding) == encode(gradient(3)[0], encoding)


def test_only_lossy_encodings_take_a_quality() -> None:
    assert [encoding.value for encoding in Encoding if encoding.takes_quality] == ["JPEG", "WEBP"]
