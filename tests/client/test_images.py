"""Images in memory, as files, as grids, as animations."""

import io
import math
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from PIL import Image, ImageSequence

from progan_client import ArgumentError, Frame, GeneratedImages, ReplyError, ServedModel, StageTimes, save_animation
from progan_client.images import Pixels, encoded, image_grid, numbered, to_image
from progan_client.video import save_video

RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


def images_of(pixels: Pixels) -> GeneratedImages:
    return GeneratedImages(
        shape=pixels.shape,
        encoding="raw",
        files=(),
        raw=pixels,
        latents=np.arange(len(pixels), dtype=np.float32)[:, None],
        seeds=tuple(range(len(pixels))),
        model=ServedModel("tiny", 1, "sha256:00"),
        times=StageTimes(0.0, 0.0, 0.0),
    )


@pytest.fixture
def three() -> GeneratedImages:
    """A red, a green and a blue image of one row and two pixels."""
    return images_of(np.array([[[colour, colour]] for colour in (RED, GREEN, BLUE)], np.uint8))


def test_iterating_and_indexing_give_pictures(three: GeneratedImages) -> None:
    assert len(three) == 3
    assert [image.getpixel((0, 0)) for image in three] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert three[-1].size == (2, 1)
    assert repr(three) == "<GeneratedImages: 3 of 1x2x3, tiny version 1>"


def test_a_slice_is_a_part_with_its_latents_and_seeds(three: GeneratedImages) -> None:
    part = three[1:]
    assert len(part) == 2
    assert part.shape == (2, 1, 2, 3)
    assert part.pixels[0, 0, 0].tolist() == GREEN
    assert part.latents.tolist() == [[1.0], [2.0]]
    assert part.seeds == (1, 2)


def test_grey_images_are_grey_pictures() -> None:
    grey = images_of(np.array([[[[7], [8]]]], np.uint8))
    assert grey[0].mode == "L"
    assert grey[0].getpixel((1, 0)) == 8


def test_a_grid_is_filled_row_by_row_and_its_rest_is_white(three: GeneratedImages) -> None:
    grid = np.asarray(three.grid(columns=2))
    assert grid.tolist() == [[RED, RED, GREEN, GREEN], [BLUE, BLUE, [255, 255, 255], [255, 255, 255]]]


@pytest.mark.parametrize(("count", "size"), [(1, (2, 1)), (2, (4, 1)), (4, (4, 2)), (5, (6, 2)), (16, (8, 4))])
def test_a_grid_is_as_square_as_it_can_be(count: int, size: tuple[int, int]) -> None:
    assert image_grid(np.zeros((count, 1, 2, 3), np.uint8)).size == size


def test_a_scaled_grid_has_squares_for_pixels() -> None:
    grid = image_grid(np.array([[[[1], [2]]]], np.uint8), scale=2)
    assert np.asarray(grid).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_a_picture_beyond_reason_is_refused(three: GeneratedImages) -> None:
    with pytest.raises(ArgumentError, match="scale, columns: must give at most 134217728 pixels; got '400000x200000'"):
        three.grid(columns=2, scale=100_000)


def test_images_columns_and_scale_begin_at_one(three: GeneratedImages) -> None:
    with pytest.raises(ArgumentError, match="columns: must be at least 1; got 0"):
        three.grid(columns=0)
    with pytest.raises(ArgumentError, match="images: must be at least one; got 0"):
        three[:0].grid()
    with pytest.raises(ArgumentError, match="scale: must be at least 1; got 0"):
        three.grid(scale=0)


@pytest.mark.parametrize("value", ["2", True, 1.5, math.nan, [2]])
def test_numbers_of_images_are_integers(three: GeneratedImages, walk: list[Frame], tmp_path: Path, value: Any) -> None:
    rule = f"must be an integer; got {re.escape(repr(value))}$"
    for argument, call in (
        ("columns", lambda: three.grid(value)),
        ("scale", lambda: three.grid(scale=value)),
        ("quality", lambda: three.save(tmp_path / "image.jpg", quality=value)),
        ("scale", lambda: save_animation(walk, tmp_path / "walk.webp", scale=value)),
        ("quality", lambda: save_animation(walk, tmp_path / "walk.webp", quality=value)),
    ):
        with pytest.raises(ArgumentError, match=f"^{argument}: {rule}"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("index", [[0, 2], np.array([0, 2]), np.array([1]), (0, 2), None, True, 1.5, "1"])
def test_an_index_names_one_image_or_is_a_slice(three: GeneratedImages, index: Any) -> None:
    with pytest.raises(TypeError, match="^the index of images must be an integer or a slice; `pixels` and `latents`"):
        three[index]
    assert three[np.int64(2)].tobytes() == three[2].tobytes() == three[-1].tobytes()  # type: ignore[call-overload]


def test_a_notebook_shows_no_picture_of_no_images(three: GeneratedImages) -> None:
    assert three[3:]._repr_png_() is None


def test_a_path_without_a_name_is_refused(three: GeneratedImages) -> None:
    for images in (three, three[:1]):
        with pytest.raises(ArgumentError, match=r"suffix: must be one of \.png, \.jpg, \.jpeg, \.webp; got ''"):
            images.save("")


def test_one_image_is_saved_under_the_name_given(three: GeneratedImages, tmp_path: Path) -> None:
    assert three[:1].save(tmp_path / "image.png") == (tmp_path / "image.png",)
    with Image.open(tmp_path / "image.png") as image:
        assert np.asarray(image).tolist() == [[RED, RED]]


def test_several_images_are_numbered(three: GeneratedImages, tmp_path: Path) -> None:
    names = [path.name for path in three.save(tmp_path / "image.png")]
    assert names == ["image-0000.png", "image-0001.png", "image-0002.png"]
    with Image.open(tmp_path / "image-0002.png") as image:
        assert image.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(("suffix", "form"), [(".png", "PNG"), (".JPG", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP")])
def test_the_suffix_is_the_format(three: GeneratedImages, tmp_path: Path, suffix: str, form: str) -> None:
    (path,) = three[:1].save(tmp_path / f"image{suffix}")
    with Image.open(path) as image:
        assert image.format == form


def test_the_same_pixels_give_the_same_png(three: GeneratedImages) -> None:
    again = images_of(three.pixels.copy())
    assert three.file(0, ".png") == again.file(0, ".png")
    with Image.open(io.BytesIO(three.file(0, ".png"))) as image:
        assert image.info == {}


def test_an_unknown_suffix_is_refused(three: GeneratedImages, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"suffix: must be one of \.png, \.jpg, \.jpeg, \.webp; got '\.bmp'"):
        three[:1].save(tmp_path / "image.bmp")


def test_quality_has_a_range(three: GeneratedImages, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="quality: must be 1 to 100; got 101"):
        three[:1].save(tmp_path / "image.jpg", quality=101)


def test_numbers_of_numpy_are_numbers(three: GeneratedImages, walk: list[Frame], tmp_path: Path) -> None:
    assert three.file(0, ".jpg", quality=np.int64(80)) == three.file(0, ".jpg", quality=80)  # type: ignore[arg-type]
    for name in ("walk.webp", "walk.mp4"):
        save_animation(walk, tmp_path / name, fps=np.float32(24), quality=np.int64(80))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("suffix", "most"), [(".webp", 16383), (".jpg", 65500), (".JPEG", 65500), (".gif", 65535), (".mp4", 16384)]
)
def test_a_picture_longer_than_its_format_is_refused(tmp_path: Path, suffix: str, most: int) -> None:
    rule = rf"suffix: must not be {suffix}, which has at most {most} pixels a side; got '{most + 1}x1'"
    image = images_of(np.zeros((1, 1, most + 1, 1), np.uint8))
    path = tmp_path / f"long{suffix}"
    with pytest.raises(ArgumentError, match=rule):
        save_animation([Frame(0, image)], path) if suffix in (".gif", ".mp4") else image.save(path)
    assert list(tmp_path.iterdir()) == []


def sent_as_png(pixels: Pixels) -> GeneratedImages:
    files = tuple(encoded(to_image(each), ".png") for each in pixels)
    return replace(images_of(pixels), encoding="png", files=files, raw=None)


def test_files_are_decoded_when_pixels_are_asked_for(three: GeneratedImages) -> None:
    sent = sent_as_png(three.pixels)
    assert np.array_equal(sent.pixels, three.pixels)
    assert sent[1:].pixels[0, 0, 0].tolist() == GREEN


def test_a_grey_file_keeps_one_channel() -> None:
    grey = np.array([[[[7], [8]]]], np.uint8)
    assert np.array_equal(sent_as_png(grey).pixels, grey)


def test_a_file_of_the_service_is_written_unchanged(three: GeneratedImages, tmp_path: Path) -> None:
    with_a_note = three.file(0, ".png") + b"unchanged"
    sent = replace(sent_as_png(three.pixels[:1]), files=(with_a_note,))
    (path,) = sent.save(tmp_path / "image.png")
    assert path.read_bytes() == with_a_note
    (path,) = sent.save(tmp_path / "image.webp")
    assert path.read_bytes()[8:12] == b"WEBP"


@pytest.mark.parametrize("file", [b"no image", b""])
def test_a_file_that_is_no_image_is_the_services_fault(three: GeneratedImages, file: bytes) -> None:
    sent = replace(sent_as_png(three.pixels[:1]), files=(file,))
    with pytest.raises(ReplyError, match="the service sent a file that is not an image"):
        _ = sent.pixels


def huge_png() -> bytes:
    """A PNG of 57 bytes that announces 30000 x 30000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, b"IDAT", b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def half_a_png(pixels: Pixels) -> bytes:
    file = encoded(to_image(pixels), ".png")
    return file[: len(file) // 2]


def test_a_file_that_would_fill_the_memory_is_not_decoded(three: GeneratedImages) -> None:
    sent = replace(sent_as_png(three.pixels[:1]), files=(huge_png(),))
    with pytest.raises(ReplyError, match="could be decompression bomb"):
        _ = sent.pixels


def test_half_a_file_is_the_services_fault(three: GeneratedImages) -> None:
    sent = replace(sent_as_png(three.pixels[:1]), files=(half_a_png(three.pixels[0]),))
    with pytest.raises(ReplyError, match="the service sent a file that is not an image"):
        _ = sent.pixels


def test_a_file_of_another_format_is_the_services_fault(three: GeneratedImages) -> None:
    sent = replace(sent_as_png(three.pixels[:1]), files=(encoded(three[0], ".webp"),))
    with pytest.raises(ReplyError, match="the service sent a file that is not an image"):
        _ = sent.pixels


def test_a_file_of_another_size_is_the_services_fault(three: GeneratedImages) -> None:
    sent = replace(sent_as_png(three.pixels[:1]), shape=(1, 2, 2, 3))
    with pytest.raises(ReplyError, match=r"announced images of \(2, 2\) pixels and sent one of \(1, 2\)"):
        _ = sent.pixels


def test_numbers_come_before_the_suffix() -> None:
    assert numbered("out/image.png", 7) == Path("out/image-0007.png")


@pytest.fixture
def walk() -> list[Frame]:
    """Seven frames, each brighter than the one before."""
    pixels = np.repeat(np.arange(7, dtype=np.uint8) * 40, 8 * 8 * 3).reshape(7, 8, 8, 3)
    return [Frame(index, images_of(pixels[index : index + 1])) for index in range(7)]


@pytest.mark.parametrize(
    ("name", "durations"),
    [("walk.webp", [42, 41, 42, 42, 41, 42, 42]), ("walk.gif", [40, 40, 40, 50, 40, 40, 40])],
)
def test_a_walk_becomes_an_animation(walk: list[Frame], tmp_path: Path, name: str, durations: list[int]) -> None:
    assert save_animation(iter(walk), tmp_path / name, fps=24, scale=2) == 7
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (16, 16)
        shown = []
        for frame in ImageSequence.Iterator(picture):
            frame.load()  # WebP needs it for the duration
            shown.append(frame.info["duration"])
    assert shown == durations


def test_a_walk_becomes_a_video_of_the_same_colours(tmp_path: Path) -> None:
    colours = np.array([[200, 30, 40], [20, 180, 60], [250, 250, 250]], np.uint8)
    frames = [Frame(index, images_of(np.full((1, 8, 8, 3), colour))) for index, colour in enumerate(colours)]
    assert save_animation(frames, tmp_path / "walk.mp4", fps=12.5, scale=4) == 3
    with av.open(tmp_path / "walk.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 12.5)
        shown = [
            frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
            for frame in container.decode(stream)
        ]
    assert [frame.shape for frame in shown] == [(32, 32, 3)] * 3
    for frame, colour in zip(shown, colours, strict=True):
        np.testing.assert_allclose(frame.mean((0, 1)), colour, atol=4)


def test_an_odd_size_is_made_even(tmp_path: Path) -> None:
    save_video([Image.new("L", (9, 7), 128)] * 2, tmp_path / "odd.mp4", 24)
    with av.open(tmp_path / "odd.mp4") as container:
        (first, _) = container.decode(video=0)
    assert (first.width, first.height) == (10, 8)
    np.testing.assert_allclose(first.to_ndarray(format="gray"), 126, atol=4)  # 128 in the range of video


def test_without_pyav_a_video_is_refused_and_the_extra_named(
    walk: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progan_client.video.find_spec", lambda _: None)
    with pytest.raises(ArgumentError, match=r"needs PyAV \(pip install 'progan-client\[mp4\]'\)"):
        save_animation(walk, tmp_path / "walk.mp4")


def test_a_frame_is_an_array_a_picture_and_a_file(walk: list[Frame], tmp_path: Path) -> None:
    assert walk[2].pixels.shape == (8, 8, 3)
    assert walk[2].image.getpixel((0, 0)) == (80, 80, 80)
    assert walk[2].save(tmp_path / "frame.png") == tmp_path / "frame.png"


def test_a_directory_that_is_not_there_is_named(
    three: GeneratedImages, walk: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for save in (three.save, three[:1].save, walk[0].save):
        with pytest.raises(
            FileNotFoundError, match=r"^missing/dir: there is no such directory for x\.png; make it first$"
        ):
            save("missing/dir/x.png")
    with pytest.raises(FileNotFoundError, match=r"^missing: there is no such directory for x\.gif; make it first$"):
        save_animation(walk, "missing/x.gif")


def test_a_wrong_animation_is_refused(walk: list[Frame], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"suffix: must be \.webp, \.gif or \.mp4; got '\.avi'"):
        save_animation(walk, tmp_path / "walk.avi")
    with pytest.raises(ArgumentError, match="fps: must be a number above 0 and at most 100; got 0"):
        save_animation(walk, tmp_path / "walk.gif", fps=0)
    with pytest.raises(ArgumentError, match="fps: must be a number above 0 and at most 100; got '24'"):
        save_animation(walk, tmp_path / "walk.gif", fps="24")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="frames: must be at least one; got 0"):
        save_animation([], tmp_path / "walk.gif")
