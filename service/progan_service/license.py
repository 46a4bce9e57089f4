"""The licence of data: its text goes from the dataset through runs and versions to the pictures that are served."""

import codecs
from pathlib import PurePosixPath

MAX_BYTES = 64 * 2**10  # the longest licences in use have half as many

_STEMS = frozenset({"LICENSE", "LICENCE", "COPYING"})
_SUFFIXES = frozenset({"", ".txt", ".md", ".rst"})
_NOTE = " ... (cut: the licence is longer than 64 KiB)"
_CONTROLS = frozenset(range(32)) - set(b"\t\n\f\r")


def is_license_name(name: str) -> bool:
    """Tell whether a file has the name of a licence in text: LICENSE, LICENCE.txt or COPYING.md, say."""
    path = PurePosixPath(name)
    return path.stem.upper() in _STEMS and path.suffix.lower() in _SUFFIXES


def text_of(content: bytes) -> str:
    """Return the text of a licence file, tidied; empty when the content is no text. UTF-16 begins with its mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode()
    if not _CONTROLS.isdisjoint(content):
        return ""
    try:
        return tidy(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return tidy(content.decode("latin-1"))


def tidy(text: str) -> str:
    """Return the text with line feeds at the end of lines, cut with a note after 64 KiB of UTF-8."""
    encoded = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
    if len(encoded) <= MAX_BYTES:
        return encoded.decode()
    return encoded[: MAX_BYTES - len(_NOTE)].decode("utf-8", "ignore") + _NOTE
