"""Colours come out as those of sRGB, within two levels of the formulas of the standards, worked out here in NumPy."""

import io
import struct
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pillow_heif import register_heif_opener

from progan_service.decoding.errors import PictureError
from progan_service.decoding.picture import decode_rgb

Floats = NDArray[np.float64]

# Six colours of one row, so far apart that lossy formats keep them.
COLOURS = [(200, 100, 50), (60, 180, 90), (40, 60, 190), (128, 128, 128), (20, 15, 10), (240, 230, 220)]

P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
SAME = np.eye(3)
P3_XYZ = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]  # under D50
SRGB_XYZ = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]


def _linear(srgb: Floats) -> Floats:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _srgb(linear: Floats) -> Floats:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _expected(to_srgb: Floats = SAME, curve: Callable[[Floats], Floats] = _linear) -> list[list[int]]:
    """Return what COLOURS of another space are in sRGB."""
    linear = curve(np.array(COLOURS) / 255)
    return [[round(255 * value) for value in pixel] for pixel in _srgb(linear @ to_srgb.T).tolist()]


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], device_class: bytes = b"mntr") -> bytes:
    """Write an ICC profile of version 2 (ICC.1:2001-04)."""
    start, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I", start + len(data)) + bytes(4) + b"\2\x40\0\0" + device_class + space + connection
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + data


def _curve(of: Callable[[Floats], Floats]) -> bytes:
    values = np.rint(65535 * of(np.linspace(0, 1, 1024))).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(values)) + values.tobytes()


def _rgb_profile(xyz: list[tuple[float, float, float]], curve: Callable[[Floats], Floats] = _linear) -> bytes:
    columns = {
        name: b"XYZ " + bytes(4) + _fixed(*row) for name, row in zip((b"rXYZ", b"gXYZ", b"bXYZ"), xyz, strict=True)
    }
    return _profile(b"RGB ", b"XYZ ", columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve)))


def _grey_profile(curve: Callable[[Floats], Floats]) -> bytes:
    white = b"XYZ " + bytes(4) + _fixed(0.9642, 1.0, 0.8249)
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _curve(curve), b"wtpt": white})


def _cmyk_profile() -> bytes:
    """Return a press on white paper, where every ink makes it darker in its own way, and black ink black."""
    corners = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lightness = 100 * (1 - 0.4 * c) * (1 - 0.5 * m) * (1 - 0.1 * y) * (1 - k)
        corners.append((lightness * 255 / 100, 128 + 20 * (m - c) * (1 - k), 128 + 30 * y * (1 - k)))
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut += ramp * 4 + np.rint(corners).astype(np.uint8).tobytes() + ramp * 3
    white = b"XYZ " + bytes(4) + _fixed(0.9642, 1.0, 0.8249)
    return _profile(b"CMYK", b"Lab ", {b"A2B0": lut, b"wtpt": white}, b"prtr")


def _lab_to_srgb(lightness: float, a: float, b: float) -> list[int]:
    """CIE 15, with white D50, and the matrix from XYZ under D50 to linear sRGB."""
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    to_rgb = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    return [round(255 * value) for value in _srgb(to_rgb @ xyz).tolist()]


def _patches(mode: str = "RGB", colours: list[tuple[int, ...]] | None = None) -> Image.Image:
    colours = colours or list(COLOURS)
    image = Image.new(mode, (32 * len(colours), 32))
    for place, colour in enumerate(colours):
        image.paste(colour if len(colour) > 1 else colour[0], (32 * place, 0, 32 * place + 32, 32))
    return image


def _encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def _shown(content: bytes) -> list[list[int]]:
    """Return the colour in the middle of each patch."""
    pixels = np.asarray(decode_rgb(content))
    return [[int(value) for value in pixel] for pixel in pixels[16, 16::32]]


def _assert_near(shown: list[list[int]], expected: list[list[int]], levels: int = 2) -> None:
    distance = np.abs(np.array(shown) - np.array(expected)).max()
    assert distance <= levels, f"{distance} levels apart:\n{shown}\n{expected}"


LOSSLESS = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG": {"quality": 100, "subsampling": 0},
}


@pytest.mark.parametrize("file_format", LOSSLESS)
def test_display_p3_becomes_srgb_in_every_format(file_format: str) -> None:
    """As every iPhone writes it. Ignoring the profile leaves red up to 46 levels off."""
    content = _encoded(_patches(), file_format, icc_profile=_rgb_profile(P3_XYZ), **LOSSLESS[file_format])
    _assert_near(_shown(content), _expected(P3_TO_SRGB))


def test_a_curve_of_its_own_becomes_that_of_srgb() -> None:
    content = _encoded(_patches(), "PNG", icc_profile=_rgb_profile(SRGB_XYZ, lambda value: value**1.8))
    _assert_near(_shown(content), _expected(curve=lambda value: value**1.8))


def test_a_profile_that_is_srgb_changes_no_pixel() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = _encoded(Image.fromarray(noise), "PNG", icc_profile=_rgb_profile(SRGB_XYZ))
    assert (np.asarray(decode_rgb(content)) == noise).all()


def test_a_palette_has_its_colours_converted() -> None:
    image = _patches().quantize(6)
    content = _encoded(image, "PNG", icc_profile=_rgb_profile(P3_XYZ))
    _assert_near(_shown(content), _expected(P3_TO_SRGB))


def test_behind_a_transparent_colour_white_stays_white() -> None:
    image = _patches().convert("RGBA")
    image.paste((200, 100, 50, 0), (0, 0, 32, 32))
    content = _encoded(image, "PNG", icc_profile=_rgb_profile(P3_XYZ))
    _assert_near(_shown(content), [[255, 255, 255], *_expected(P3_TO_SRGB)[1:]])


def test_a_grey_profile_is_followed() -> None:
    content = _encoded(_patches("L", [(30,), (128,), (220,)]), "PNG", icc_profile=_grey_profile(lambda v: v**1.8))
    grey = [round(255 * value) for value in _srgb((np.array([30, 128, 220]) / 255) ** 1.8).tolist()]
    _assert_near(_shown(content), [[value] * 3 for value in grey])


def test_grey_with_a_profile_of_colours_is_taken_for_colours() -> None:
    """As browsers do. Whoever made a photograph grey often left its profile in the file."""
    content = _encoded(_patches("L", [(30,), (128,)]), "JPEG", icc_profile=_rgb_profile(P3_XYZ, lambda v: v**1.8))
    grey = [round(255 * value) for value in _srgb((np.array([30, 128]) / 255) ** 1.8).tolist()]
    _assert_near(_shown(content), [[value] * 3 for value in grey])


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_is_shown_as_its_profile_says(file_format: str) -> None:
    inks = [
        (0, 0, 0, 0),
        (255, 0, 0, 0),
        (0, 255, 0, 0),
        (0, 0, 255, 0),
        (255, 0, 255, 0),
        (0, 0, 0, 255),
        (0, 0, 0, 128),
    ]
    options = {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {}
    content = _encoded(_patches("CMYK", list(inks)), file_format, icc_profile=_cmyk_profile(), **options)
    labs = [(100, 0, 0), (60, -20, 0), (50, 20, 0), (90, 0, 30), (54, -20, 30), (0, 0, 0), (49.8, 0, 0)]
    _assert_near(_shown(content), [_lab_to_srgb(*lab) for lab in labs])


@pytest.mark.parametrize("profile", [None, b"damaged", _rgb_profile(P3_XYZ)], ids=["none", "damaged", "of RGB"])
def test_cmyk_without_a_usable_profile_is_ideal_inks(profile: bytes | None) -> None:
    """What browsers show: red is what cyan and black leave of it."""
    inks = [(0, 0, 0, 0), (0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 128), (0, 127, 0, 127)]
    content = _encoded(_patches("CMYK", list(inks)), "TIFF", icc_profile=profile)
    assert _shown(content) == [[255, 255, 255], [255, 0, 0], [0, 255, 255], [127, 127, 127], [128, 64, 128]]


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(b"no profile at all", id="no profile"),
        pytest.param(_rgb_profile(P3_XYZ)[:150], id="cut off"),
        pytest.param(_rgb_profile(P3_XYZ).replace(b"rTRC", b"xTRC"), id="without a curve"),
        pytest.param(_rgb_profile(P3_XYZ).replace(b"acsp", b"psca"), id="without its mark"),
        pytest.param(_cmyk_profile(), id="of CMYK"),
        pytest.param(_grey_profile(lambda value: value**1.8), id="of grey"),
        pytest.param(_rgb_profile(P3_XYZ).replace(b"mntr", b"link"), id="of another class"),
    ],
)
def test_a_profile_that_is_damaged_or_for_other_channels_is_ignored(profile: bytes) -> None:
    assert _shown(_encoded(_patches(), "PNG", icc_profile=profile)) == [list(colour) for colour in COLOURS]


def _with_chunks(png: bytes, **chunks: bytes) -> bytes:
    """Put chunks behind the header of a PNG."""
    packed = b"".join(
        struct.pack(">I", len(data)) + name.encode() + data + struct.pack(">I", zlib.crc32(name.encode() + data))
        for name, data in chunks.items()
    )
    return png[:33] + packed + png[33:]


def _per_100_000(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}I", *(round(number * 100_000) for number in numbers))


SRGB_XY = _per_100_000(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3_XY = _per_100_000(0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


@pytest.mark.parametrize("bits", [8, 16])
def test_gamma_and_primaries_of_a_png_are_followed(bits: int) -> None:
    png = _encoded(_patches(), "PNG") if bits == 8 else _png_of_16_bits(np.asarray(_patches()) * np.uint16(257))
    p3 = _with_chunks(png, gAMA=_per_100_000(0.45455), cHRM=P3_XY)
    _assert_near(_shown(p3), _expected(P3_TO_SRGB))
    mac = _with_chunks(png, gAMA=_per_100_000(1 / 1.8))
    _assert_near(_shown(mac), _expected(curve=lambda value: value**1.8))


def test_a_gamma_of_2_2_is_the_curve_of_srgb() -> None:
    """PNG's standard has programs write it beside or instead of sRGB."""
    png = _with_chunks(_encoded(_patches(), "PNG"), gAMA=_per_100_000(0.45455), cHRM=SRGB_XY)
    assert _shown(png) == [list(colour) for colour in COLOURS]


def test_linear_light_is_made_brighter() -> None:
    png = _with_chunks(_encoded(_patches("L", [(1,), (55,), (128,)]), "PNG"), gAMA=_per_100_000(1.0))
    _assert_near(_shown(png), [[13] * 3, [128] * 3, [188] * 3])


def test_linear_light_of_16_bits_is_refused_since_8_bits_cannot_hold_it() -> None:
    png = _with_chunks(_png_of_16_bits(np.zeros((8, 8, 3), np.uint16)), gAMA=_per_100_000(1.0))
    with pytest.raises(PictureError, match="linear pixels of more than 8 bits, which would be rounded too coarsely"):
        decode_rgb(png)


def test_what_a_png_says_of_its_colours_has_an_order() -> None:
    """cICP counts before a profile, a profile before sRGB, sRGB before gAMA and cHRM (PNG 3rd edition, 4.3)."""
    plain = _encoded(_patches(), "PNG")
    profiled = _encoded(_patches(), "PNG", icc_profile=_rgb_profile(P3_XYZ))
    strange = {"gAMA": _per_100_000(1.0), "cHRM": P3_XY}
    srgb = [list(colour) for colour in COLOURS]
    assert _shown(_with_chunks(plain, sRGB=b"\0", **strange)) == srgb
    _assert_near(_shown(_with_chunks(profiled, **strange)), _expected(P3_TO_SRGB))
    assert _shown(_with_chunks(profiled, cICP=bytes([1, 13, 0, 1]))) == srgb
    _assert_near(_shown(_with_chunks(plain, cICP=bytes([12, 13, 0, 1]), **strange)), _expected(P3_TO_SRGB))
    _assert_near(_shown(_with_chunks(plain, cICP=bytes([9, 1, 0, 1]))), _expected(BT2020_TO_SRGB))


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_has_no_place_in_srgb(transfer: int) -> None:
    with pytest.raises(
        PictureError, match=r"an HDR picture \((PQ|HLG)\), whose brightness has no sRGB: save it as SDR"
    ):
        decode_rgb(_with_chunks(_encoded(_patches(), "PNG"), cICP=bytes([9, transfer, 0, 1])))


@pytest.mark.parametrize("chunks", [{"gAMA": bytes(4)}, {"cHRM": bytes(32)}, {"cHRM": SRGB_XY[:16] + SRGB_XY[:16]}])
def test_numbers_that_are_no_colours_are_ignored(chunks: dict[str, bytes]) -> None:
    assert _shown(_with_chunks(_encoded(_patches(), "PNG"), **chunks)) == [list(colour) for colour in COLOURS]


def test_an_avif_says_its_primaries_in_a_box() -> None:
    plain = _encoded(_patches(), "AVIF", **LOSSLESS["AVIF"])
    box = plain.index(b"colrnclx") + 8
    as_p3 = plain[:box] + struct.pack(">HH", 12, 13) + plain[box + 4 :]
    _assert_near(_shown(plain), [list(colour) for colour in COLOURS])
    _assert_near(_shown(as_p3), _expected(P3_TO_SRGB))
    with pytest.raises(PictureError, match=r"an HDR picture \(PQ\)"):
        decode_rgb(plain[:box] + struct.pack(">HH", 9, 16) + plain[box + 4 :])


def _with_colours(jp2: bytes, method: int, colours: bytes) -> bytes:
    """Replace the box `colr` of a JPEG 2000 file."""
    start = jp2.index(b"colr") - 4
    size = struct.unpack_from(">I", jp2, start)[0]
    box = struct.pack(">I4sBBB", 11 + len(colours), b"colr", method, 0, 0) + colours
    header = jp2.index(b"jp2h") - 4
    grown = struct.pack(">I", struct.unpack_from(">I", jp2, header)[0] + len(box) - size)
    return jp2[:header] + grown + jp2[header + 4 : start] + box + jp2[start + size :]


def test_a_jpeg_2000_with_a_profile_is_followed() -> None:
    jp2 = _encoded(_patches(), "JPEG2000")
    assert _shown(jp2) == [list(colour) for colour in COLOURS]
    _assert_near(_shown(_with_colours(jp2, 2, _rgb_profile(P3_XYZ))), _expected(P3_TO_SRGB))
    assert _shown(_encoded(_patches(), "JPEG2000", no_jp2=True)) == [list(colour) for colour in COLOURS]
    with pytest.raises(PictureError, match=r"a JPEG 2000 of CIE L\*a\*b\*: save it as sRGB"):
        decode_rgb(_with_colours(jp2, 1, struct.pack(">I", 14)))


def _png_of_16_bits(pixels: NDArray[np.uint16], colour_type: int = 2, **chunks: bytes) -> bytes:
    """Write a PNG of 16 bits a sample, which Pillow cannot: pixels [H, W, C]."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    empty = _with_chunks(b"\x89PNG\r\n\x1a\n".ljust(33, b" "), **chunks, IDAT=zlib.compress(rows), IEND=b"")[33:]
    return _with_chunks(b"\x89PNG\r\n\x1a\n", IHDR=header) + empty


@pytest.mark.parametrize(
    ("colour_type", "stored", "shown"),
    [
        pytest.param(0, [90 * 257], [90, 90, 90], id="grey"),
        pytest.param(2, [10 * 257, 20 * 257, 30 * 257], [10, 20, 30], id="RGB"),
        pytest.param(4, [0, 51 * 257], [204, 204, 204], id="grey and alpha"),
        pytest.param(6, [0, 0, 0, 51 * 257], [204, 204, 204], id="RGB and alpha"),
    ],
)
def test_16_bits_of_a_png_become_8(colour_type: int, stored: list[int], shown: list[int]) -> None:
    pixels = np.tile(np.array(stored, np.uint16), (32, 32, 1))
    assert _shown(_png_of_16_bits(pixels, colour_type)) == [shown]


def test_one_transparent_grey_is_found_at_any_depth() -> None:
    """The chunk tRNS holds it in the bits of the picture: 1 of 3 for 2 bits, 300 of 65535 for 16."""
    header = struct.pack(">IIBBBBB", 32, 32, 2, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x55" * 4 + b"\xaa" * 4) * 32)  # 16 pixels of 1, 16 of 2
    of_2_bits = _with_chunks(b"\x89PNG\r\n\x1a\n", IHDR=header, tRNS=b"\0\1", IDAT=rows, IEND=b"")
    pixels = np.asarray(decode_rgb(of_2_bits))
    assert (pixels[0, 0].tolist(), pixels[0, -1].tolist()) == ([255, 255, 255], [170, 170, 170])

    grey = np.full((32, 32, 1), 301, np.uint16)
    grey[0, 0] = 300
    pixels = np.asarray(decode_rgb(_png_of_16_bits(grey, 0, tRNS=struct.pack(">H", 300))))
    assert (pixels[0, 0].tolist(), pixels[0, 1].tolist()) == ([255, 255, 255], [1, 1, 1])


def test_one_transparent_colour_of_16_bits_is_refused() -> None:
    content = _png_of_16_bits(np.zeros((8, 8, 3), np.uint16), tRNS=bytes(6))
    with pytest.raises(
        PictureError, match="16 bits a sample and one transparent colour: save it with an alpha channel"
    ):
        decode_rgb(content)


def test_a_picture_far_larger_than_needed_has_the_same_colours() -> None:
    """It is scaled down before its colours are converted."""
    image = _patches().resize((1920, 1280), Image.Resampling.NEAREST)
    content = _encoded(image, "PNG", icc_profile=_rgb_profile(P3_XYZ))
    small = decode_rgb(content, enough=64)
    assert small.size == (320, 214)
    pixels = np.asarray(small)[100, 26::53][:6]
    _assert_near([[int(value) for value in pixel] for pixel in pixels], _expected(P3_TO_SRGB))


def test_scaling_down_keeps_what_is_transparent_out_of_the_colours() -> None:
    image = Image.new("RGBA", (1024, 1024), (0, 0, 0, 0))
    image.paste((200, 100, 50, 255), (0, 0, 1024, 513))
    edge = np.asarray(decode_rgb(_encoded(image, "PNG"), enough=64))
    assert edge[0, 0].tolist() == [200, 100, 50]
    assert (edge.reshape(-1, 3).min(axis=0) >= [200, 100, 50]).all()


def test_a_heic_says_its_colours_by_a_profile_or_in_a_box() -> None:
    """It is how an iPhone saves its photographs."""
    register_heif_opener()
    options = {"quality": 100, "chroma": 444}
    profiled = _encoded(_patches(), "HEIF", icc_profile=_rgb_profile(P3_XYZ), **options)
    _assert_near(_shown(profiled), _expected(P3_TO_SRGB))
    plain = _encoded(_patches(), "HEIF", **options)
    box = plain.index(b"colrnclx") + 8
    _assert_near(_shown(plain), [list(colour) for colour in COLOURS])
    _assert_near(_shown(plain[:box] + struct.pack(">HH", 12, 13) + plain[box + 4 :]), _expected(P3_TO_SRGB))


def test_without_the_extra_a_heic_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    register_heif_opener()
    content = _encoded(_patches(), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match=r"is a HEIC picture: install progan-service\[import\] to read it"):
        decode_rgb(content)
