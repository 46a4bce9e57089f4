"""Pictures become latents: the client and its commands, against a real server with an untrained network."""

import asyncio
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from display_p3 import P3_RED, SRGB_RED, p3_profile
from numpy.typing import NDArray
from PIL import Image

from progan_client import ArgumentError, AsyncClient, Client, InvalidArgumentError, InversionReport
from progan_client.command.main import main
from progan_client.pictures import picture_files, shown_square


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client(server_target: str) -> Client:
    return Client(server_target)


@pytest.fixture
def photo(client: Client, tmp_path: Path) -> Path:
    return client.generate(seed=100).save(tmp_path / "photo.png")[0]


def test_a_picture_is_found(client: Client, photo: Path) -> None:
    found = client.invert(photo, enough_db=40)
    assert (found.latents.shape, found.labels, len(found.images)) == ((1, 16), None, 1)
    assert found.psnr_db[0] > 35
    assert found.evaluations[0] <= 300
    assert found.ends[0] in ("enough", "no_gain")
    np.testing.assert_array_equal(client.generate(latents=found.latents).pixels, found.images.pixels)
    assert repr(found) == f"<Inversion: {found.psnr_db[0]:.1f} dB, tiny version 1>"
    assert found._repr_png_()[:4] == b"\x89PNG"


def test_pictures_come_in_many_forms_and_stay_in_order(client: Client) -> None:
    images = client.generate(count=4, seed=7, encoding="png")
    pictures = [images.files[0], images[1], images.pixels[2], images.pixels[3]]
    found = client.invert(pictures, max_evaluations=60, encoding="png")
    assert found.latents.shape == (4, 16)
    assert len(found.images.files) == 4
    squares = (found.images.pixels.astype(float) - images.pixels) ** 2
    assert found.psnr_db == pytest.approx(10 * np.log10(255**2 / squares.mean(axis=(1, 2, 3))), abs=0.02)


def test_progress_is_reported(client: Client, photo: Path) -> None:
    reports: list[InversionReport] = []
    client.invert(photo, progress=reports.append, max_evaluations=30, enough_db=100)
    assert reports[-1].evaluations == 30
    assert all((report.picture, report.latent.shape) == (0, (16,)) for report in reports)


def test_it_is_the_same_for_asyncio(client: Client, server_target: str, photo: Path) -> None:
    async def inverted() -> NDArray[np.float32]:
        async with AsyncClient(server_target) as aio:
            return (await aio.invert([photo], max_evaluations=20, progress=lambda _: None)).latents

    np.testing.assert_array_equal(asyncio.run(inverted()), client.invert(photo, max_evaluations=20).latents)


def test_a_model_says_whether_it_can_be_inverted(client: Client) -> None:
    assert client.model().version().can_invert


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"pictures": []}, "pictures: must be 1 to 8; got 0"),
        ({"pictures": [b""] * 9}, "pictures: must be 1 to 8; got 9"),
        ({"pictures": [3]}, r"pictures\[0\]: must be a path, the bytes of a file, a PIL image of .* got 'int'"),
        ({"pictures": np.zeros((8, 8, 3))}, r"pictures\[0\]: must be a path, .* got 'float64 \[8, 8, 3\]'"),
        ({"pictures": np.zeros((0, 8, 3), np.uint8)}, r"pictures\[0\]: must be a path, .* got 'uint8 \[0, 8, 3\]'"),
        ({"pictures": Image.new("F", (8, 9))}, r"pictures\[0\]: .* of whole numbers, .* got 'mode F, 8x9 pixels'"),
        ({"pictures": Image.new("RGB", (0, 9))}, r"pictures\[0\]: must be a path, .* got 'mode RGB, 0x9 pixels'"),
        ({"pictures": io.BytesIO(b"\n" * 9)}, "pictures: must be a path, .* got 'BytesIO'"),
        ({"pictures": bytearray(9)}, "pictures: must be a path, .* got 'bytearray'"),
        ({"pictures": None}, "pictures: must be a path, .* got 'NoneType'"),
        ({"pictures": b"", "fit": "squeeze"}, "fit: must be one of crop, pad, stretch; got 'squeeze'"),
        ({"pictures": b"", "enough_db": 0}, "enough_db: must be a number from 1 to 100; got 0"),
        ({"pictures": b"", "enough_db": "40"}, "enough_db: must be a number from 1 to 100; got '40'"),
        ({"pictures": b"", "enough_db": 10**400}, "enough_db: must be a number from 1 to 100; got 10000"),
        ({"pictures": b"", "max_evaluations": True}, "max_evaluations: must be an integer; got True"),
        ({"pictures": b"", "max_evaluations": 2001}, "max_evaluations: must be 1 to 2000; got 2001"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    client: Client, arguments: dict[str, object], problem: str
) -> None:
    with pytest.raises(ArgumentError, match=problem):
        client.invert(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected argument 'edits'"):
        client.invert(b"", edits={"size": 1})  # type: ignore[call-arg]


def test_large_files_are_made_smaller() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), np.uint8))
    (content,) = picture_files(noise)
    assert len(content) <= 480 * 2**10
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (512, 512))
    small = file(Image.new("RGB", (8, 8)))
    assert picture_files(small) == [small]
    with pytest.raises(ArgumentError, match=r"pictures\[0\]: must be a PNG, JPEG or WebP picture; got '500000 bytes'"):
        picture_files(bytes(500_000))


def test_what_a_large_file_is_does_not_depend_on_its_size() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8))
    with pytest.raises(ArgumentError, match=r"pictures\[0\]: must be a PNG, JPEG or WebP picture"):
        picture_files(file(noise, "TIFF"))  # a small one is refused by the service
    cut = file(noise)[:600_000]
    with pytest.raises(ArgumentError, match=r"pictures\[0\]: must be an undamaged PNG, JPEG or WebP picture"):
        picture_files(cut)


def test_a_picture_with_more_pixels_than_the_service_takes_is_made_smaller_too() -> None:
    (content,) = picture_files(file(Image.new("RGB", (8000, 20), "red")))
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (1024, 3)


def test_far_too_many_pixels_are_told_from_a_foreign_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ArgumentError, match=r"pictures\[0\]: must have at most 100 pixels; got '\d+ bytes'"):
        picture_files(file(Image.new("RGB", (11, 10))))


@pytest.mark.filterwarnings("error")
def test_what_pillow_only_warns_of_is_taken_in_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    photo = file(Image.new("RGB", (10, 10), "red"))
    assert picture_files(photo) == [photo]
    assert picture_files(Image.new("RGB", (10, 10), "red"))
    (tmp_path / "photo.png").write_bytes(photo)
    assert shown_square(tmp_path / "photo.png", "crop", 8, 3).tolist()[0][0] == [255, 0, 0]
    with pytest.raises(ArgumentError, match=r"pictures\[0\]: must have at most 100 pixels"):
        picture_files(Image.new("RGB", (11, 10)))


def test_the_service_names_the_picture_that_it_cannot_read(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^pictures\[1\]: is a text; must be a PNG, JPEG or WebP file$"):
        client.invert([file(Image.new("RGB", (8, 8))), b"hello, I am a text"])


def test_a_large_photograph_of_a_telephone_keeps_its_colours(client: Client) -> None:
    """What is too large to be sent loses its profile, so its colours are converted before."""
    noise = np.random.default_rng(0).integers(0, 4, (1400, 1400, 3), np.uint8)
    photo = file(Image.fromarray(np.array(P3_RED, np.uint8) - noise), icc_profile=p3_profile())
    assert len(photo) > 480 * 2**10
    (content,) = picture_files(photo)
    with Image.open(io.BytesIO(content)) as image:
        assert image.info.get("icc_profile") is None
        assert np.asarray(image).mean((0, 1)).tolist() == pytest.approx(SRGB_RED, abs=4)


def test_a_photograph_that_pillow_has_opened_is_sent_upright() -> None:
    halves, upside_down = Image.new("RGB", (64, 64), "red"), Image.Exif()
    halves.paste("blue", (32, 0, 64, 64))
    upside_down[0x0112] = 3
    with Image.open(io.BytesIO(file(halves, exif=upside_down))) as opened:
        (content,) = picture_files(opened)
    with Image.open(io.BytesIO(content)) as sent:
        assert (sent.getpixel((0, 0)), sent.getpixel((63, 0))) == ((0, 0, 255), (255, 0, 0))
        assert sent.getexif().get(0x0112, 1) == 1


def test_inks_16_bits_and_premultiplied_alpha_become_rgb() -> None:
    for image, colour in (
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.fromarray(np.full((8, 8), 0x8080, np.uint16)), (128, 128, 128)),
        (Image.fromarray(np.full((8, 8), 0x00FF, np.uint16)), (1, 1, 1)),
        (Image.new("LA", (8, 8), (100, 51)).convert("La"), (224, 224, 224)),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 51)).convert("RGBa"), (255, 204, 204)),
    ):
        (content,) = picture_files(image)
        with Image.open(io.BytesIO(content)) as sent:
            assert sent.convert("RGB").getpixel((0, 0)) == colour


# Commands


def run(target: str, *arguments: object) -> int:
    return main(["--target", target, *map(str, arguments)])


def test_invert_writes_images_and_latents(
    server_target: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents = tmp_path / "z.npy"
    ended = run(
        server_target,
        "invert",
        photo,
        photo,
        "--max-evaluations",
        10,
        "--enough",
        100,
        "-o",
        tmp_path / "found.png",
        "--latents",
        latents,
    )
    assert ended == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith(f"{photo}: found at ")
    assert first.endswith(" dB after 10 evaluations")
    assert last == f"{tmp_path}/found.png: 2 images, 16x8 pixels, tiny version 1"
    assert np.load(latents).shape == (2, 16)
    assert run(server_target, "generate", "--latents", latents, "-o", tmp_path / "again.png") == 0
    with Image.open(tmp_path / "again.png") as again, Image.open(tmp_path / "found.png") as found:
        np.testing.assert_array_equal(np.asarray(again), np.asarray(found))


def test_invert_writes_each_image_to_a_directory(server_target: str, photo: Path, tmp_path: Path) -> None:
    assert run(server_target, "invert", *[photo] * 9, "--max-evaluations", 2, "-o", f"{tmp_path}/out/") == 0
    assert len(list((tmp_path / "out").iterdir())) == 9


def test_edit_needs_an_edit(server_target: str, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server_target, "edit", photo, "-o", photo.with_name("edited.png")) == 2
    assert "give --edit or --set; to find the image alone, use `progan-client invert`" in capsys.readouterr().err


def test_a_missing_photo_is_named(server_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server_target, "invert", tmp_path / "none.jpg", "-o", tmp_path / "found.png") == 1
    assert f"PHOTO {tmp_path}/none.jpg: no such file" in capsys.readouterr().err


def test_a_refused_photo_is_named_and_what_was_found_before_is_written(
    server_target: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, found, latents = tmp_path / "text.jpg", tmp_path / "found.png", tmp_path / "z.npy"
    text.write_text("hello, I am a text")
    photos = [*[photo] * 9, text]  # more than one call takes
    assert run(server_target, "invert", *photos, "--max-evaluations", 2, "-o", found, "--latents", latents) == 1
    out, err = capsys.readouterr()
    assert err == f"progan-client: PHOTO {text}: is a text; must be a PNG, JPEG or WebP file\n"
    assert out.splitlines()[-1] == f"{found}: 8 images, 24x24 pixels, tiny version 1"
    assert np.load(latents).shape == (8, 16)


def test_latents_are_written_before_a_picture_that_fails(
    server_target: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents, output = tmp_path / "z.npy", ("-o", tmp_path / "found.webp", "--columns", 300, "--scale", 64)
    assert run(server_target, "invert", photo, "--max-evaluations", 2, *output, "--latents", latents) == 2
    assert "--output: must not be .webp, which has at most 16383 pixels a side; got" in capsys.readouterr().err
    assert np.load(latents).shape == (1, 16)


def test_latents_do_not_replace_a_photo(
    server_target: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever takes `--latents` for an input would lose one."""
    before = photo.read_bytes()
    assert run(server_target, "invert", photo, "-o", tmp_path / "found.png", "--latents", photo) == 2
    assert capsys.readouterr().err == f"progan-client: --latents: must end in .npy; got '{photo}'\n"
    assert photo.read_bytes() == before


def test_an_error_does_not_stand_behind_the_progress(
    server_target: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: Client, __: object, progress: Callable[[InversionReport], None], **___: object) -> None:
        progress(InversionReport(0, 10, 12.8, np.zeros(16, np.float32)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "invert", interrupted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(server_target, "invert", photo, "-o", photo.with_name("found.png")) == 130
    line = f"\r\x1b[K{photo}: 12.8 dB after 10 evaluations"
    assert capsys.readouterr().err == f"{line}\r\x1b[Kprogan-client: interrupted\n"
