"""The table of kinds of pictures in docs/datasets.md: a file of every row is made and tried."""

import gzip
import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from display_p3 import P3_RED, SRGB_RED, p3_profile
from PIL import Image
from pillow_heif import register_heif_opener

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making.build import build_dataset

DOCS = Path(__file__).parents[4] / "docs" / "datasets.md"
Colour = tuple[int, int, int]

RED, GREY = P3_RED, (90, 90, 90)
SIDE = 16


def _image(colour: Colour = RED, mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), colour).convert(mode)


def _file(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or _image()).save(stream, kind, **options)
    return stream.getvalue()


def _film(kind: str, **options: object) -> bytes:
    return _file(kind, save_all=True, append_images=[_image(GREY)], **options)


def _jpeg(**options: object) -> bytes:
    return _file("JPEG", quality=100, **options)


def _noise() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return _file("JPEG", Image.fromarray(noise))


def _png(depth: int, kind: int, row: bytes, **chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in {"IHDR": header, **chunks, "IDAT": zlib.compress((b"\0" + row) * SIDE), "IEND": b""}.items():
        body = name.encode() + data
        content += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return content


def _tiff(bits: int, photometric: int, pixel: bytes, samples: int = 1, **more: int) -> bytes:
    """Write one strip of little-endian TIFF; `more` are tags by number, `t339=3`."""
    strip = pixel * (SIDE * SIDE * samples * bits // 8 // len(pixel))
    tags = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: photometric, 273: 8, 277: samples, 278: SIDE, 279: len(strip)}
    tags |= {int(name[1:]): value for name, value in more.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def _heic() -> bytes:
    register_heif_opener()
    return _file("HEIF", quality=100, chroma=444)


def _inks(**options: object) -> bytes:
    """Return a JPEG of CMYK: no cyan, all magenta and yellow, no black."""
    return _jpeg(**options, image=Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)))


def _grey_press() -> bytes:
    """Return a press on white paper whose inks are all L*a*b* (53.7, 0, 0), the grey 128, and black ink black."""
    ramp = bytes(range(256))
    corners = bytes([255, 128, 128, 0, 128, 128]) + bytes([137, 128, 128, 0, 128, 128]) * 7
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut += ramp * 4 + corners + ramp * 3
    head = (
        bytes(4) + b"\2\x40\0\0prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    )
    body = struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut
    return struct.pack(">I", 128 + len(body)) + head.ljust(124, b"\0") + body


def _pages() -> bytes:
    return _file("TIFF", Image.new("RGB", (8, 8), GREY), save_all=True, append_images=[_image()])


# A file of each row, and what colour it is where it is read.
TRIED: dict[str, tuple[Callable[[], bytes], Colour | None]] = {
    "JPEG": (_jpeg, RED),
    "JPEG, progressive": (lambda: _jpeg(progressive=True), RED),
    "JPEG with a Display P3 profile, as of an iPhone": (lambda: _jpeg(icc_profile=p3_profile()), SRGB_RED),
    "JPEG of CMYK with a profile": (lambda: _inks(icc_profile=_grey_press()), (128, 128, 128)),
    "JPEG of CMYK without a profile": (_inks, (255, 0, 0)),
    "JPEG without its last two bytes": (lambda: _jpeg()[:-2], RED),
    "half a JPEG": (lambda: _noise()[:3000], None),
    "JPEG in a file without an ending": (_jpeg, RED),
    "PNG": (lambda: _file("PNG"), RED),
    "PNG with a palette": (lambda: _file("PNG", _image().quantize(2)), RED),
    "PNG of 16 bits": (lambda: _png(16, 2, bytes([200, 200, 40, 40, 30, 30]) * SIDE), RED),
    "PNG of 16 bits in linear light": (lambda: _png(16, 2, bytes(6) * SIDE, gAMA=struct.pack(">I", 100_000)), None),
    "PNG with gAMA and cHRM": (
        lambda: _png(
            *(8, 2, bytes(RED) * SIDE),
            gAMA=struct.pack(">I", 45_455),
            cHRM=struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
        ),
        SRGB_RED,
    ),
    "PNG with alpha": (lambda: _file("PNG", Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 51))), (204, 204, 204)),
    "PNG that moves (APNG)": (lambda: _film("PNG"), RED),
    "PNG of HDR (cICP with PQ)": (lambda: _png(8, 2, bytes(3) * SIDE, cICP=bytes([9, 16, 0, 1])), None),
    "GIF": (lambda: _film("GIF"), RED),
    "WebP": (lambda: _film("WEBP", lossless=True), RED),
    "BMP": (lambda: _file("BMP"), RED),
    "TGA": (lambda: _file("TGA"), RED),
    "PBM, PGM or PPM": (lambda: _file("PPM"), RED),
    "PFM": (lambda: _file("PPM", Image.new("F", (SIDE, SIDE))), None),
    "JPEG 2000": (lambda: _file("JPEG2000"), RED),
    "AVIF": (lambda: _file("AVIF", quality=100, subsampling="4:4:4"), RED),
    "HEIC": (_heic, RED),
    "TIFF": (lambda: _file("TIFF"), RED),
    "TIFF of 12-bit or 16-bit grey": (lambda: _tiff(12, 1, b"\x5a\x55\xa5"), GREY),
    "TIFF where 0 is white": (lambda: _tiff(8, 0, b"\xa5"), GREY),
    r"TIFF of CIE L\*a\*b\* with 8 bits": (lambda: _tiff(8, 8, bytes([255, 0, 0]), 3), (255, 255, 255)),
    "TIFF of several pages": (_pages, RED),
    "TIFF of floating-point numbers": (lambda: _tiff(32, 1, bytes(4), t339=3), None),
    "TIFF of signed numbers": (lambda: _tiff(16, 1, bytes(2), t339=2), None),
    "TIFF of 32 bits a sample": (lambda: _tiff(32, 1, bytes(4)), None),
    "TIFF of LogLuv": (lambda: _tiff(16, 32845, bytes(2), 3), None),
    "TIFF compressed by old-style JPEG": (lambda: _tiff(8, 2, bytes(3), 3, t259=6), None),
    "raw file of a camera, DNG": (lambda: _tiff(8, 1, b"\1", t50706=1), None),
    "raw file of a camera, CR2": (lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(64), None),
    "JPEG XL": (lambda: b"\xff\x0a" + bytes(64), None),
    "Photoshop": (lambda: b"8BPS\0\1" + bytes(64), None),
    "OpenEXR": (lambda: b"v/1\1" + bytes(64), None),
    "DICOM": (lambda: bytes(128) + b"DICM", None),
    "more than 89,478,485 pixels": (lambda: b"P5 9460 9460 255\n", None),
    "JPEG packed by gzip": (lambda: gzip.compress(_jpeg()), None),
    "photo.jpg that is a web page": (lambda: b"<!DOCTYPE html><html><body>404", None),
    "photo.jpg that is a Git LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
        None,
    ),
    "photo.jpg that is empty": (lambda: b"", None),
    "photo.jpg of zeros": (lambda: bytes(4096), None),
}


def _rows() -> dict[str, str]:
    table = DOCS.read_text().split("## Kinds of pictures")[1].split("\n\n")[1]
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE)[1:])


def _name(row: str) -> str:
    if row == "TGA":
        return "photo.tga"
    return "photo.jpg" if row.startswith("photo.jpg") else "photo"


@pytest.mark.parametrize(("row", "outcome"), _rows().items())
def test_what_is_documented_happens(tmp_path: Path, row: str, outcome: str) -> None:
    make, colour = TRIED[row]
    source = tmp_path / "photos"
    source.mkdir()
    (source / _name(row)).write_bytes(make())

    def build() -> None:
        build_dataset(source, tmp_path / "out", SIDE, "crop", lambda *_: None)

    if colour:
        assert re.match(r"read\b", outcome)
        build()
        shown = Dataset.open(tmp_path / "out").images(np.arange(1), SIDE)[0, 5, 5]
        assert shown.tolist() == pytest.approx(colour, abs=2)
    else:
        words = re.fullmatch(r"refused: (`+)(.+?) ?\1", outcome)
        assert words
        with pytest.raises(DatasetError) as caught:
            build()
        line = str(caught.value).splitlines()[1].strip()
        expected = f"{_name(row)}: {words[2]}"
        assert line.startswith(expected[:-1]) if expected.endswith("…") else line == expected


def test_every_row_is_tried() -> None:
    assert _rows().keys() == TRIED.keys()
