"""Finds the colours that a JPEG 2000 file says it has (ISO 15444-1, I.5.3.3), which Pillow passes over."""

from progan_service.decoding.errors import PictureError

_ENUMERATED, _RESTRICTED_ICC, _ANY_ICC = 1, 2, 3
_DECODED = (0, 12, 15, 16, 17, 18)  # black and white, CMYK, black and white, sRGB, grey, sYCC
_NAMES = {1: "YCbCr", 3: "YCbCr", 4: "YCbCr", 11: "CMY", 13: "YCCK", 14: "CIE L*a*b*", 19: "CIE J*a*b*", 20: "e-sRGB"}


def profile(content: bytes) -> bytes | None:
    """Return the ICC profile of a JP2 file, or None if it has none, or is a bare codestream.

    Raises:
        PictureError: the colours are of a kind that is not decoded.
    """
    header = content.find(b"jp2h")
    start = content.find(b"colr", header) + 4 if 0 <= header < content.find(b"jp2c") else 3
    if start < 8:
        return None
    end = start - 8 + int.from_bytes(content[start - 8 : start - 4])
    if content[start : start + 1] in (bytes([_RESTRICTED_ICC]), bytes([_ANY_ICC])):
        return content[start + 3 : end]
    colours = int.from_bytes(content[start + 3 : start + 7])
    if colours not in _DECODED:
        raise PictureError(f"a JPEG 2000 of {_NAMES.get(colours, f'colours of kind {colours}')}: save it as sRGB")
    return None
