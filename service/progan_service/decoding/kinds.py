"""Tells by a file's first bytes what it is: a picture that can be decoded, another kind of picture, or no picture."""

import re
import zlib
from pathlib import PurePosixPath

HEAD_BYTES = 512  # the first bytes of a file, by which its kind is told

# What is decoded, by Pillow's names, and the beginnings that show it. A TGA has none: see `may_be_tga`.
_DECODED = {
    "JPEG": rb"\xff\xd8\xff[^\xf7]",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[*+]\0(?!\x10\0\0\0CR)|MM\0[*+]",
    "PPM": rb"P[1-6]\s[\s\d#]",
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
}
# Pictures of other kinds. They are refused and not passed over: whoever has them in a folder wants them in the dataset.
_NOT_DECODED = {
    "a JPEG XL picture": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "a JPEG-LS picture": rb"\xff\xd8\xff\xf7",
    "a JPEG XR picture": rb"II\xbc\x01",
    "a Photoshop file": rb"8BPS\0[\x01\x02]",
    "a GIMP file": rb"gimp xcf ",
    "an OpenEXR picture": rb"v/1\x01",
    "a Radiance HDR picture": rb"#\?(RADIANCE|RGBE)\n",
    "a PFM picture": rb"P[Ff]\s\d",
    "a PAM picture": rb"P7\n",
    "a QOI picture": rb"qoif",
    "a DDS picture": rb"DDS \x7c\0\0\0",
    "a FITS picture": rb"SIMPLE  = ",
    "a DICOM picture": rb".{128}DICM",
    "a camera's raw file": rb"II\*\0\x10\0\0\0CR|FUJIFILMCCD-RAW|IIU\0|IIR[OS]\x08\0|....ftypcrx ",
}
_OTHER = {
    "is an HTML page": rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)\b",
    "is an SVG drawing: draw it as pixels": rb"(\xef\xbb\xbf)?\s*(<\?xml.*?)?(<!--.*?-->\s*)?(<!DOCTYPE svg.*)?<svg\b",
    "is an XML file": rb"(\xef\xbb\xbf)?\s*<\?xml\b",
    "is a Git LFS pointer, not the picture: fetch it with `git lfs pull`": rb"version https://git-lfs",
    "is a PDF document": rb"%PDF-",
    "is a PostScript file": rb"%!PS|\xc5\xd0\xd3\xc6",
    "is a gzip file: unpack it": rb"\x1f\x8b",
    "is a bzip2 file: unpack it": rb"BZh[1-9]",
    "is an xz file: unpack it": rb"\xfd7zXZ\0",
    "is a Zstandard file: unpack it": rb"\x28\xb5\x2f\xfd",
    "is a zip archive: unpack it": rb"PK\x03\x04",
    "is a 7z archive: unpack it": rb"7z\xbc\xaf\x27\x1c",
    "is a RAR archive: unpack it": rb"Rar!\x1a\x07",
    "is a NumPy array": rb"\x93NUMPY",
    "is a video": rb"....ftyp|....(moov|mdat|wide)|\x1aE\xdf\xa3|RIFF....AVI ",
    "holds zeros only": rb"\0+\Z",
    "is a text": rb"[\t\n\r -\x7f\xc2-\xf4][\t\n\r -\x7f\x80-\xf4]*\Z",
}
_ISO_BRANDS = {  # of ISO base media files, the first that is found among their brands
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"},
}
_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".tga", ".icb", ".vda", ".vst", ".pbm", ".pgm", ".pnm", ".ppm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl"),
)


def picture_kind(head: bytes) -> str | None:
    """Return the kind of picture that begins with these bytes, or None if they begin no picture.

    It is Pillow's name ("JPEG", "PNG", ...) or "HEIC" for what `decode_rgb` decodes, else words such as "a JPEG XL
    picture" or "a gzip'd JPEG".

    Args:
        head: the whole file, or its first 512 bytes.
    """
    head = head[:HEAD_BYTES]
    if head[4:8] == b"ftyp" and (kind := _iso_kind(head)):
        return kind
    for kind, pattern in (_DECODED | _NOT_DECODED).items():
        if re.match(pattern, head, re.DOTALL):
            return kind
    packed = picture_kind(_unpacked(head)) if head.startswith(b"\x1f\x8b") else None
    return f"a gzip'd {packed.removeprefix('a ')}" if packed else None


def is_decoded(kind: str | None) -> bool:
    """Return whether `decode_rgb` decodes pictures of this kind."""
    return kind in _DECODED or kind in _ISO_BRANDS


def is_picture(name: str, head: bytes) -> bool:
    """Return whether a file is meant as a picture: one by its first 512 bytes, or named like one, and not hidden.

    What is named like a picture and is none is to be refused by `decode_rgb`, not passed over.
    """
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return False
    return path.suffix.lower() in _SUFFIXES or picture_kind(head) is not None


def refusal(content: bytes) -> str:
    """Return what a file is that is not decoded, and what can be done, such as "is a HEIC picture: save it as PNG"."""
    head = content[:HEAD_BYTES]
    kind = picture_kind(head)
    if kind:
        return f"is {kind}: unpack it" if "gzip'd" in kind else f"is {kind}, which is not read: save it as PNG or JPEG"
    if not head:
        return "is empty"
    for words, pattern in _OTHER.items():
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return words
    return "no picture of a known format"


def may_be_tga(head: bytes) -> bool:
    """Return whether the bytes could be the header of a TGA: its fields have values that exist, and a size."""
    if len(head) < 18 or not (head[12] | head[13]) or not (head[14] | head[15]):
        return False
    has_map, kind, depth = head[1], head[2], head[16]
    return (
        has_map in ((1,) if kind in (1, 9) else (0, 1))
        and kind in (1, 2, 3, 9, 10, 11)
        and depth in (8, 15, 16, 24, 32)
    )


def _iso_kind(head: bytes) -> str | None:
    size = int.from_bytes(head[:4])
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, min(size, len(head)), 4))}
    return next((kind for kind, known in _ISO_BRANDS.items() if brands & known), None)


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""
