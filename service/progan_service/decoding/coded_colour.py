"""Finds the colours of a picture without an ICC profile, and writes the profile that they amount to.

PNG says them in the chunks cICP, sRGB, gAMA and cHRM (PNG 3rd edition, 4.3), AVIF and HEIC in a box `colr` of type
`nclx`. The numbers of cICP and nclx are those of ITU-T H.273.
"""

import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from progan_service.decoding.errors import PictureError

_D65, _D50 = (0.3127, 0.3290), (0.3457, 0.3585)
_SRGB_PRIMARIES = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)  # x, y of white, red, green and blue
_PRIMARIES = {  # H.273, table 2
    1: _SRGB_PRIMARIES,
    2: _SRGB_PRIMARIES,  # not said
    5: (*_D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
# H.273, table 3: the gamma, or None for the curve of sRGB. Pictures in the curve of video (1, 6, 14, 15) are sRGB whose
# encoder said something else, and viewers show them so.
_GAMMAS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
_HDR = {16: "PQ", 18: "HLG"}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


class PngColours(NamedTuple):
    """What a PNG says of its pixels.

    depth     bits a sample; of an index where there is a palette
    profile   the ICC profile of its colours, or None if they are those of sRGB
    """

    depth: int
    profile: bytes | None


def png_colours(content: bytes, embedded: bytes | None) -> PngColours:
    """Read the chunks of a PNG that say how its numbers become colours.

    Args:
        content: the file.
        embedded: the profile that was found in it.

    Raises:
        PictureError: its brightness is that of HDR, or its primaries are unknown.
    """
    chunks = dict(_chunks(content))
    depth = chunks.get(b"IHDR", bytes(9))[8]
    if len(coded := chunks.get(b"cICP", b"")) >= 2:
        return PngColours(depth, _h273_profile(coded[0], coded[1]))
    if embedded or b"sRGB" in chunks:
        return PngColours(depth, embedded)
    gamma, primaries = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    exponent = int.from_bytes(gamma[:4]) / 100_000
    places = tuple(place / 100_000 for place in struct.unpack(">8I", primaries[:32])) if len(primaries) >= 32 else ()
    return PngColours(depth, _profile(places or _SRGB_PRIMARIES, 1 / exponent if exponent else None))


def nclx_profile(content: bytes) -> bytes | None:
    """Return the ICC profile that the first box `nclx` of an AVIF or HEIC amounts to, or None if it is sRGB.

    Raises:
        PictureError: its brightness is that of HDR, or its primaries are unknown.
    """
    start = content.find(b"colrnclx") + 8
    numbers = content[start : start + 4]
    return _h273_profile(*struct.unpack(">HH", numbers)) if start >= 8 and len(numbers) == 4 else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 8
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        if kind in (b"IDAT", b"IEND"):
            return
        yield kind, content[start + 8 : start + 8 + size]
        start += size + 12


def _h273_profile(primaries: int, transfer: int) -> bytes | None:
    if transfer in _HDR:
        raise PictureError(f"an HDR picture ({_HDR[transfer]}), whose brightness has no sRGB: save it as SDR")
    if primaries not in _PRIMARIES or transfer not in _GAMMAS:
        raise PictureError(f"its colours are of an unknown kind (H.273: {primaries}, {transfer}): save it as sRGB")
    return _profile(_PRIMARIES[primaries], _GAMMAS[transfer])


@cache
def _profile(primaries: tuple[float, ...], gamma: float | None) -> bytes | None:
    """Return an ICC profile of these primaries [8] and this gamma (None: the curve of sRGB), or None if it is sRGB.

    A gamma near 2.2 is the curve of sRGB: programs write that number for it.
    """
    if gamma is not None and abs(gamma - 2.2) < 0.05:
        gamma = None
    if gamma is None and np.allclose(primaries, _SRGB_PRIMARIES, atol=0.002):
        return None
    try:
        colorants = _colorants(np.array(primaries).reshape(4, 2))
    except np.linalg.LinAlgError:
        return None  # primaries that span no colours: damage
    return _icc(colorants, (gamma,) if gamma else _SRGB_CURVE) if np.isfinite(colorants).all() else None


def _colorants(primaries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return XYZ of red, green and blue [3, 3], one a row, under the white D50 of profiles."""
    with np.errstate(all="ignore"):
        xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries])
    white, unscaled = xyz[0], xyz[1:].T
    scaled = unscaled * np.linalg.solve(unscaled, white)
    d50 = np.array([_D50[0] / _D50[1], 1.0, (1 - sum(_D50)) / _D50[1]])
    cones = np.diag((_BRADFORD @ d50) / (_BRADFORD @ white))
    return np.asarray((np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ scaled).T)


def _icc(colorants: NDArray[np.float64], curve: tuple[float, ...]) -> bytes:
    """Write a display profile with a matrix and a parametric curve (ICC.1:2010, 8.3)."""

    def fixed(*numbers: float) -> bytes:
        return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))

    para = b"para" + bytes(4) + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + fixed(*curve)
    tags = {
        name: b"XYZ " + bytes(4) + fixed(*xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), para)
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(data), len(tag))
        data += tag
    header = struct.pack(">I4sI4s4s4s", start + len(data), bytes(4), 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + data
