"""Pixels become picture files. Pure functions; the same pixels and texts give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DEFAULT_QUALITY = 90
LONGEST_TEXT = 64 * 2**10  # the longest licences in use have half as many characters

_COMPRESSED_FROM = 1024  # characters; the PNG specification's advice
_CHUNK_FRAME_BYTES = 12  # length, type and checksum of a PNG chunk

Texts = Mapping[str, str]


class Encoding(StrEnum):
    """How images travel; RAW is the pixels themselves."""

    RAW = "RAW"
    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"

    @property
    def takes_quality(self) -> bool:
        return self in (Encoding.JPEG, Encoding.WEBP)


def encode(
    pixels: NDArray[np.uint8],
    encoding: Encoding,
    quality: int = DEFAULT_QUALITY,
    texts: Sequence[Texts] | None = None,
) -> list[bytes]:
    """One PNG, JPEG or WebP file per image of uint8 [N, H, W, C], C 1 or 3.

    quality   1 to 100, where it is taken
    texts     N mappings of Latin-1 keywords to texts, which only PNG files carry: as text chunks, of LONGEST_TEXT
              characters at most (longer ones are cut)
    """
    files = []
    for index, image in enumerate(pixels):
        options: dict[str, object] = {"quality": quality} if encoding.takes_quality else {}
        if encoding is Encoding.PNG and texts is not None:
            options["pnginfo"] = _text_chunks(texts[index])
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, encoding.value, **options)
        files.append(buffer.getvalue())
    return files


def text_bytes(texts: Texts) -> int:
    """By how much texts make a PNG file longer."""
    return sum(len(data) + _CHUNK_FRAME_BYTES for _, data, _ in _text_chunks(texts).chunks)


def _text_chunks(texts: Texts) -> PngInfo:
    """Latin-1 where that can hold a text, UTF-8 where not."""
    chunks = PngInfo()
    for keyword, text in texts.items():
        chunks.add_text(keyword, _writable(text), zip=len(text) >= _COMPRESSED_FROM)
    return chunks


def _writable(text: str) -> str:
    """As the PNG specification wants it: lines end in a line feed, and there is no NUL."""
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    characters = text.encode("utf-8", "replace").decode()  # JSON can hold halves of surrogate pairs
    return characters.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
