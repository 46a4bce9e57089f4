import gzip
import io
import struct

import pytest
from PIL import Image

from progan_service.decoding.kinds import is_decoded, is_picture, may_be_tga, picture_kind, refusal


def _encoded(file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, file_format, **options)
    return stream.getvalue()


def _iso_media(brand: bytes, *compatible: bytes) -> bytes:
    box = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 4 + len(box)) + box + bytes(64)


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"])
def test_a_picture_is_known_by_its_first_bytes(kind: str) -> None:
    content = _encoded(kind)
    assert picture_kind(content) == picture_kind(content[:512]) == kind
    assert is_decoded(kind)
    assert is_picture("photo", content)
    assert is_picture("photo.dat", content)


def test_other_writings_of_the_same_kinds_are_known() -> None:
    assert picture_kind(_encoded("TIFF", big_tiff=True)) == "TIFF"
    assert picture_kind(_encoded("JPEG2000", no_jp2=True)) == "JPEG2000"
    assert picture_kind(b"P5\n# by a camera\n8 8\n255\n" + bytes(64)) == "PPM"
    assert picture_kind(_iso_media(b"mif1", b"mif1", b"avif")) == "AVIF"


def test_a_tga_has_no_first_bytes_of_its_own_and_goes_by_its_name() -> None:
    content = _encoded("TGA")
    assert picture_kind(content) is None
    assert may_be_tga(content)
    assert is_picture("photo.tga", content)
    assert not is_picture("photo.dat", content)
    assert not may_be_tga(b"no picture")
    assert not may_be_tga(bytes(512))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\xff\x0a" + bytes(64), "is a JPEG XL picture, which is not read: save it as PNG or JPEG"),
        (b"8BPS\0\1" + bytes(64), "is a Photoshop file, which is not read: save it as PNG or JPEG"),
        (b"v/1\1" + bytes(64), "is an OpenEXR picture, which is not read: save it as PNG or JPEG"),
        (bytes(128) + b"DICM", "is a DICOM picture, which is not read: save it as PNG or JPEG"),
        (b"II*\0\x10\0\0\0CR\2\0", "is a camera's raw file, which is not read: save it as PNG or JPEG"),
        (_iso_media(b"crx ", b"crx ", b"isom"), "is a camera's raw file, which is not read: save it as PNG or JPEG"),
        (gzip.compress(_encoded("JPEG"), mtime=0), "is a gzip'd JPEG: unpack it"),
        (gzip.compress(b"8BPS\0\1" + bytes(64), mtime=0), "is a gzip'd Photoshop file: unpack it"),
    ],
)
def test_a_picture_that_is_not_decoded_is_named(head: bytes, words: str) -> None:
    """It counts as a picture, so that nobody misses it in a dataset."""
    assert is_picture("photo", head)
    assert not is_decoded(picture_kind(head))
    assert refusal(head) == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html>\n<html><body>404 Not Found", "is an HTML page"),
        (b"\xef\xbb\xbf<!-- cached --><html lang='en'>", "is an HTML page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "is an SVG drawing: draw it as pixels"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is an XML file"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (gzip.compress(b"words", mtime=0), "is a gzip file: unpack it"),
        (b"PK\3\4" + bytes(30), "is a zip archive: unpack it"),
        (_iso_media(b"qt  ", b"qt  "), "is a video"),
        (_iso_media(b"isom", b"mp42"), "is a video"),
        (b"\x93NUMPY\1\0", "is a NumPy array"),
        (bytes(4096), "holds zeros only"),
        (b"no picture", "is a text"),
        ("Übersicht".encode(), "is a text"),
        (b"BM is how this text begins, as a bitmap does", "is a text"),
        (b"P3 is how this text begins, as a pixmap does", "is a text"),
        (b"\x01\x02\x03\x04", "no picture of a known format"),
    ],
)
def test_what_is_no_picture_is_named_too(content: bytes, words: str) -> None:
    assert picture_kind(content) is None
    assert refusal(content) == words
    assert is_picture("photo.jpg", content)
    assert not is_picture("photo.dat", content)


def test_a_git_lfs_pointer_is_named_with_what_to_do() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    assert refusal(pointer) == "is a Git LFS pointer, not the picture: fetch it with `git lfs pull`"


@pytest.mark.parametrize(
    "name", ["a.jpg", "deep/er/b.PNG", "c.JPEG", "d.webp", "e.jpe", "f.apng", "g.j2k", "phone.heic"]
)
def test_what_is_named_like_a_picture_counts_as_one(name: str) -> None:
    assert is_picture(name, b"")


@pytest.mark.parametrize("name", [".hidden.png", ".git/a.png", "__MACOSX/._a.png", "../a.png"])
def test_hidden_files_are_no_pictures(name: str) -> None:
    assert not is_picture(name, _encoded("PNG"))


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "a.txt", "x.json"])
def test_other_files_are_no_pictures(name: str) -> None:
    assert not is_picture(name, b"words")
