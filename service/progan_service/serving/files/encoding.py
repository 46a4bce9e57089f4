"""Pixels become image files. Pure functions: the same pixels and texts give the same bytes."""

import io
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DEFAULT_QUALITY = 90
LONGEST_TEXT = 64 * 2**10  # as long as a licence may be

_COMPRESSED_FROM = 1024  # characters; recommended by the PNG specification
_CHUNK_FRAME_BYTES = 12  # length, type and checksum of a PNG chunk


class Encoding(StrEnum):
    """How images are sent; RAW is the pixels themselves."""

    RAW = "RAW"
    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"

    @property
    def takes_quality(self) -> bool:
        return self in (Encoding.JPEG, Encoding.WEBP)


def encode(
    image: NDArray[np.uint8], encoding: Encoding, quality: int = DEFAULT_QUALITY, texts: PngInfo | None = None
) -> bytes:
    """Return a PNG, JPEG or WebP file of an image uint8 [H, W, C], C 1 or 3.

    quality   1 to 100, for JPEG and WebP
    texts     for PNG; other files carry none
    """
    options: dict[str, object] = {"quality": quality} if encoding.takes_quality else {}
    if encoding is Encoding.PNG:
        options["pnginfo"] = texts
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, encoding.value, **options)
    return buffer.getvalue()


def text_chunks(texts: Mapping[str, str], after: PngInfo | None = None) -> PngInfo:
    """Return texts as chunks of a PNG file, after the chunks of `after`. Keywords must be Latin-1.

    A text is Latin-1 if that can hold it, else UTF-8. Texts longer than LONGEST_TEXT characters are cut.
    """
    chunks = PngInfo()
    chunks.chunks.extend(after.chunks if after else [])
    for keyword, text in texts.items():
        chunks.add_text(keyword, _writable(text), zip=len(text) >= _COMPRESSED_FROM)
    return chunks


@lru_cache(maxsize=64)
def kept_chunks(texts: tuple[tuple[str, str], ...]) -> PngInfo:
    """Return the chunks of texts that many files share, made once: a long license takes long to compress."""
    return text_chunks(dict(texts))


def text_bytes(texts: PngInfo) -> int:
    """Return by how many bytes texts make a PNG file longer."""
    return sum(len(data) + _CHUNK_FRAME_BYTES for _, data, _ in texts.chunks)


def _writable(text: str) -> str:
    """Return the text as the PNG specification demands it: lines end in a line feed, and there is no NUL."""
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    characters = text.encode("utf-8", "replace").decode()  # JSON can hold halves of surrogate pairs
    return characters.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
