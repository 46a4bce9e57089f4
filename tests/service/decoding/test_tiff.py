"""TIFFs written byte by byte as TIFF 6.0 says, so that what they should look like is known without a decoder."""

import io
import struct
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from progan_service.decoding.errors import PictureError
from progan_service.decoding.picture import decode_rgb

Tags = dict[int, int | Sequence[int]]
Pixels = list[list[int]]

SUBFILE_TYPE, COMPRESSION, PHOTOMETRIC, FILL_ORDER, ORIENTATION, PLANAR = 254, 259, 262, 266, 274, 284
COLOR_MAP, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, DNG_VERSION = 320, 332, 338, 339, 530, 50706
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, MASK, CMYK, YCBCR, CIE_LAB = 0, 1, 2, 3, 4, 5, 6, 8


def _page(bits: int, samples: int, photometric: int, planes: list[bytes], size: tuple[int, int], more: Tags) -> Tags:
    """Return the tags of a page of one strip, or of one for each plane; `planes` are put in place by `_file`."""
    tags: Tags = {256: size[0], 257: size[1], 258: [bits] * samples, COMPRESSION: 1, PHOTOMETRIC: photometric}
    return tags | {277: samples, 278: size[1], 279: [len(plane) for plane in planes]} | more


def _file(pages: list[tuple[Tags, list[bytes]]], order: str = "<") -> bytes:
    """Write pages of (tags, strips), one after the other."""
    content = b"II*\0" if order == "<" else b"MM\0*"
    link = len(content)  # where the offset of the next directory belongs
    content += bytes(4)
    for tags, strips in pages:
        starts = []
        for strip in strips:
            starts.append(len(content))
            content += strip + bytes(len(strip) % 2)
        entries, blobs = b"", b""
        known = tags | {273: starts}
        blobs_start = len(content) + 2 + 12 * len(known) + 4
        for tag in sorted(known):
            values = known[tag]
            numbers = [values] if isinstance(values, int) else list(values)
            kind, letter = (4, "I") if tag in (273, 279) else (3, "H")
            packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
            if len(packed) > 4:
                blobs, packed = blobs + packed, struct.pack(f"{order}I", blobs_start + len(blobs))
            entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
        content = content[:link] + struct.pack(f"{order}I", len(content)) + content[link + 4 :]
        content += struct.pack(f"{order}H", len(known)) + entries
        link = len(content)
        content += bytes(4) + blobs
    return content


def _tiff(
    bits: int, photometric: int, *planes: bytes, size: tuple[int, int] = (2, 1), order: str = "<", **more: object
) -> bytes:
    samples = more.pop("samples", 1)
    assert isinstance(samples, int)
    tags: Tags = {globals()[name]: value for name, value in more.items()}  # type: ignore[misc]
    return _file([(_page(bits, samples, photometric, list(planes), size, tags), list(planes))], order)


def _pixels(content: bytes) -> Pixels:
    """Return the first row."""
    return [[int(value) for value in pixel] for pixel in np.asarray(decode_rgb(content))[0]]


@pytest.mark.parametrize(
    ("content", "grey"),
    [
        pytest.param(_tiff(1, MIN_IS_BLACK, b"\x40"), [0, 255], id="1 bit"),
        pytest.param(_tiff(1, MIN_IS_WHITE, b"\x40"), [255, 0], id="1 bit, 0 is white"),
        pytest.param(_tiff(1, MIN_IS_BLACK, b"\x02", FILL_ORDER=2), [0, 255], id="1 bit, from the right"),
        pytest.param(_tiff(2, MIN_IS_BLACK, b"\x60"), [85, 170], id="2 bits"),
        pytest.param(_tiff(4, MIN_IS_BLACK, b"\x3c"), [51, 204], id="4 bits"),
        pytest.param(_tiff(4, MIN_IS_WHITE, b"\x3c"), [204, 51], id="4 bits, 0 is white"),
        pytest.param(_tiff(8, MIN_IS_BLACK, b"\x5a\x5b"), [90, 91], id="8 bits"),
        pytest.param(_tiff(8, MIN_IS_WHITE, b"\x5a\x5b"), [165, 164], id="8 bits, 0 is white"),
        pytest.param(_tiff(12, MIN_IS_BLACK, b"\xff\xf8\x00"), [255, 128], id="12 bits, packed"),
        pytest.param(_tiff(12, MIN_IS_BLACK, b"\x00\x0f\x00"), [0, 239], id="12 bits, packed, other values"),
        pytest.param(_tiff(16, MIN_IS_BLACK, struct.pack("<2H", 65535, 257 * 90)), [255, 90], id="16 bits"),
        pytest.param(_tiff(16, MIN_IS_BLACK, struct.pack(">2H", 65535, 257 * 90), order=">"), [255, 90], id="16, big"),
        pytest.param(_tiff(16, MIN_IS_WHITE, struct.pack("<2H", 65535, 257 * 90)), [0, 165], id="16, 0 is white"),
    ],
)
def test_grey_of_any_bits_is_spread_over_black_to_white(content: bytes, grey: list[int]) -> None:
    assert _pixels(content) == [[value] * 3 for value in grey]


@pytest.mark.parametrize(
    ("content", "first"),
    [
        pytest.param(_tiff(8, RGB, bytes([10, 20, 30] * 2), samples=3), [10, 20, 30], id="RGB"),
        pytest.param(
            _tiff(8, RGB, b"\x0a\x0a", b"\x14\x14", b"\x1e\x1e", samples=3, PLANAR=2), [10, 20, 30], id="RGB in planes"
        ),
        pytest.param(
            _tiff(16, RGB, struct.pack("<6H", *[2570, 5140, 7710] * 2), samples=3), [10, 20, 30], id="RGB of 16 bits"
        ),
        pytest.param(
            _tiff(16, RGB, *(struct.pack("<2H", n, n) for n in (2810, 5370, 7930)), samples=3, PLANAR=2),
            [10, 20, 30],
            id="RGB of 16 bits in planes",
        ),
        pytest.param(
            _tiff(16, RGB, *(struct.pack(">2H", n, n) for n in (2810, 5370, 7930)), samples=3, PLANAR=2, order=">"),
            [10, 20, 30],
            id="RGB of 16 bits in planes, big",
        ),
        pytest.param(
            _tiff(8, RGB, bytes([10, 20, 30, 99] * 2), samples=4, EXTRA_SAMPLES=0), [10, 20, 30], id="RGB and something"
        ),
        pytest.param(
            _tiff(8, RGB, bytes([0, 0, 0, 51] * 2), samples=4, EXTRA_SAMPLES=2), [204] * 3, id="RGB and alpha"
        ),
        pytest.param(
            _tiff(8, RGB, bytes([51, 0, 0, 51] * 2), samples=4, EXTRA_SAMPLES=1), [255, 204, 204], id="premultiplied"
        ),
        pytest.param(
            _tiff(8, MIN_IS_BLACK, bytes([0, 51] * 2), samples=2, EXTRA_SAMPLES=2), [204] * 3, id="grey, alpha"
        ),
        pytest.param(
            _tiff(8, MIN_IS_BLACK, bytes([51, 51] * 2), samples=2, EXTRA_SAMPLES=1), [255] * 3, id="grey, premultiplied"
        ),
        pytest.param(
            _tiff(4, PALETTE, b"\x11", COLOR_MAP=[0, 200 * 257, *[0] * 14, 0, 10 * 257, *[0] * 14, 0, 0, *[0] * 14]),
            [200, 10, 0],
            id="palette",
        ),
        pytest.param(_tiff(8, CMYK, bytes([0, 255, 255, 0] * 2), samples=4), [255, 0, 0], id="CMYK"),
        pytest.param(_tiff(8, CIE_LAB, bytes([255, 0, 0] * 2), samples=3), [255, 255, 255], id="Lab, white"),
        pytest.param(_tiff(8, CIE_LAB, bytes([138, 81, 70] * 2), samples=3), [252, 5, 3], id="Lab, red"),
    ],
)
def test_colours_are_read_in_every_layout(content: bytes, first: list[int]) -> None:
    assert _pixels(content)[0] == pytest.approx(first, abs=1)


@pytest.mark.parametrize(
    ("subsampling", "block"),
    [((1, 1), [76, 85, 255] * 64), ((2, 1), [76, 76, 85, 255] * 32), ((2, 2), [76] * 4 + [85, 255])],
)
def test_red_stays_red_however_its_colours_are_subsampled(subsampling: tuple[int, int], block: list[int]) -> None:
    """76, 85, 255 is red in YCbCr of Rec. 601, the default of TIFF."""
    data = bytes(block) if len(block) > 6 else bytes(block * 16)
    content = _tiff(8, YCBCR, data, size=(8, 8), samples=3, SUBSAMPLING=subsampling)
    assert (np.abs(np.asarray(decode_rgb(content)).astype(int) - [255, 0, 0]) <= 1).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_lossless_compression_changes_nothing(compression: str, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 64 * 32 * 4, dtype=np.uint8).tobytes()
    image = Image.frombytes(mode, (64, 32), noise[: 64 * 32 * {"I;16": 2}.get(mode, len(mode))])
    stream, plain = io.BytesIO(), io.BytesIO()
    image.save(stream, "TIFF", compression=compression)
    image.save(plain, "PNG" if mode != "CMYK" else "TIFF")
    assert decode_rgb(stream.getvalue()).tobytes() == decode_rgb(plain.getvalue()).tobytes()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (_tiff(32, MIN_IS_BLACK, bytes(8)), "a TIFF of grey with 32 bits a sample"),
        (_tiff(16, MIN_IS_BLACK, bytes(4), SAMPLE_FORMAT=2), "a TIFF of signed samples"),
        (_tiff(32, MIN_IS_BLACK, bytes(8), SAMPLE_FORMAT=3), "a TIFF of floating-point samples"),
        (_tiff(64, MIN_IS_BLACK, bytes(16), SAMPLE_FORMAT=6), "a TIFF of complex samples"),
        (_tiff(12, MIN_IS_WHITE, bytes(3)), "a TIFF of grey with 12 bits a sample"),
        (_tiff(12, RGB, bytes(9), samples=3), "a TIFF of RGB with 12 bits a sample"),
        (
            _tiff(8, RGB, bytes(4), samples=3).replace(b"\x08\0\x08\0\x08\0", b"\x05\0\x06\0\x05\0"),
            "5 and 6 bits a sample",
        ),
        (_tiff(16, MIN_IS_BLACK, bytes(8), samples=2, EXTRA_SAMPLES=2), "grey with 16 bits a sample and alpha"),
        (_tiff(8, MIN_IS_BLACK, b"\0\0", b"\0\0", samples=2, PLANAR=2), "grey with its samples in separate planes"),
        (_tiff(8, CIE_LAB, *[b"\0\0"] * 3, samples=3, PLANAR=2), r"CIE L\*a\*b\* with its samples in separate planes"),
        (_tiff(16, CIE_LAB, bytes(12), samples=3), r"CIE L\*a\*b\* with 16 bits a sample"),
        (_tiff(8, 9, bytes(6), samples=3), r"a TIFF of ICC L\*a\*b\* pixels"),
        (_tiff(16, 32845, bytes(12), samples=3, SAMPLE_FORMAT=2, COMPRESSION=34676), "a TIFF of LogLuv pixels"),
        (_tiff(16, 32803, bytes(4)), "a TIFF of colour filter array pixels"),
        (_tiff(1, MASK, b"\0"), "a TIFF of mask pixels"),
        (_tiff(8, 77, bytes(2)), "a TIFF of photometric interpretation 77 pixels"),
        (_tiff(8, CMYK, bytes(8), samples=4, INK_SET=2), "a TIFF of inks other than cyan, magenta, yellow and black"),
        (_tiff(8, RGB, bytes(6), samples=3, COMPRESSION=6), "a TIFF compressed by old-style JPEG"),
        (_tiff(8, RGB, bytes(6), samples=3, COMPRESSION=50001), "a TIFF compressed by WebP"),
        (_tiff(8, RGB, bytes(6), samples=3, COMPRESSION=999), "a TIFF compressed by method 999"),
        (
            _tiff(8, PALETTE, b"\1\1", COLOR_MAP=[200] * 768),
            "whose palette is all black, or of 8 bits where 16 are due",
        ),
        (_tiff(8, MIN_IS_BLACK, b"\1\1", DNG_VERSION=1), r"is a camera's raw file \(DNG\)"),
        (_tiff(8, MIN_IS_BLACK, b"\1\1", SUBFILE_TYPE=1), "a TIFF without a full-size page"),
    ],
)
def test_what_would_come_out_wrong_is_refused_by_name(content: bytes, fault: str) -> None:
    with pytest.raises(PictureError, match=fault):
        decode_rgb(content)


def test_a_tiff_that_says_nothing_of_black_and_white_is_refused() -> None:
    tags = _page(8, 1, MIN_IS_BLACK, [b"\1\2"], (2, 1), {})
    del tags[PHOTOMETRIC]
    with pytest.raises(PictureError, match="does not say what its numbers mean"):
        decode_rgb(_file([(tags, [b"\1\2"])]))


def test_the_full_size_page_is_taken_and_not_the_thumbnail_before_it() -> None:
    def page(grey: int, side: int, **more: int) -> tuple[Tags, list[bytes]]:
        data = bytes([grey] * side * side)
        return _page(8, 1, MIN_IS_BLACK, [data], (side, side), {globals()[name]: n for name, n in more.items()}), [data]

    assert _pixels(_file([page(10, 2, SUBFILE_TYPE=1), page(90, 4)])) == [[90] * 3] * 4
    assert _pixels(_file([page(10, 2), page(90, 4)])) == [[90] * 3] * 4
    assert _pixels(_file([page(90, 4), page(10, 8, SUBFILE_TYPE=4)])) == [[90] * 3] * 4
    assert _pixels(_file([page(90, 4), page(10, 4), page(20, 4)])) == [[90] * 3] * 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_was_held_as_the_tag_says(orientation: int) -> None:
    """The upper row is white and black as stored; the white pixel ends at this (row, column)."""
    content = _tiff(8, MIN_IS_BLACK, b"\xff\0\0\0\0\0", size=(3, 2), ORIENTATION=orientation)
    rows, columns = (2, 3) if orientation < 5 else (3, 2)
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    pixels = np.asarray(decode_rgb(content))
    assert pixels.shape == (rows, columns, 3)
    assert pixels[corner[orientation]].tolist() == [255, 255, 255]
    assert (pixels == 255).all(axis=2).sum() == 1


def test_a_chain_of_pages_that_bites_its_tail_ends() -> None:
    content = bytearray(_tiff(8, MIN_IS_BLACK, b"\x5a\x5b"))
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    assert _pixels(bytes(content)) == [[90] * 3, [91] * 3]


def test_pages_that_share_their_data_take_no_memory() -> None:
    """3,000 directories point at the same 128 KiB: 384 MiB, if each of them were kept."""
    shared = bytes(2**17)
    start = 8 + len(shared)
    content = b"II*\0" + struct.pack("<I", start) + shared
    for page in range(1, 3001):
        content += struct.pack("<HHHIII", 1, 258, 3, len(shared) // 2, 8, start + 18 * page if page < 3000 else 0)
    tracemalloc.start()
    with pytest.raises(PictureError, match="does not say what its numbers mean"):
        decode_rgb(content)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 32 * 2**20


def test_a_huge_page_behind_a_small_one_is_refused_before_it_takes_memory() -> None:
    small = _page(8, 1, MIN_IS_BLACK, [b"\1"], (1, 1), {}), [b"\1"]
    huge = _page(8, 1, MIN_IS_BLACK, [b"\1"], (40_000, 40_000), {}), [b"\1"]
    with pytest.raises(PictureError, match="more than 89478485 pixels: scale it down first"):
        decode_rgb(_file([small, huge]))


def test_a_big_tiff_is_read() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (10, 20, 30)).save(stream, "TIFF", big_tiff=True)
    assert _pixels(stream.getvalue())[0] == [10, 20, 30]


def test_half_a_tiff_is_refused() -> None:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "TIFF")
    with pytest.raises(PictureError, match="cannot be decoded"):
        decode_rgb(stream.getvalue()[:6000])
