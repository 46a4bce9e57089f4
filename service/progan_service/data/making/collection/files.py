"""What a collection of pictures is: files that are read into memory one at a time, and names that are left out."""

import bz2
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from progan_service.decoding.kinds import HEAD_BYTES

MAX_FILE_BYTES = 256 * 2**20
LISTED_AT_ONCE = 10_000  # files between two calls of progress

ARCHIVE_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
    *(RuntimeError, NotImplementedError),  # an encrypted zip member; a zip of a version that the library does not know
)

_OF_SYSTEMS = frozenset({"__MACOSX", ".DS_Store", ".AppleDouble", "Thumbs.db", "ehthumbs.db", "desktop.ini"})


class UnreadableFileError(Exception):
    """A file of a collection cannot be read. The message is the reason."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a collection: its path inside, with `/`, and its content on demand. Threads may read side by side."""

    name: str
    _read: Callable[[Any, int | None], bytes]
    _place: Any

    def read(self) -> bytes:
        """Return the content.

        Raises:
            UnreadableFileError: the file is larger than 256 MiB, encrypted, damaged, or not permitted.
        """
        return self._content(None)

    def head(self) -> bytes:
        """Return the first bytes, by which a kind of picture is told. Raises UnreadableFileError."""
        return self._content(HEAD_BYTES)

    def _content(self, limit: int | None) -> bytes:
        try:
            return self._read(self._place, limit)
        except ARCHIVE_ERRORS as error:
            raise UnreadableFileError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file, link or folder of a collection that is not in the dataset. The reason follows the name in a sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """The files of a source, sorted by name, and what it has besides."""

    files: list[SourceFile]
    left_out: list[LeftOut]

    @classmethod
    def of(cls, found: Iterable[SourceFile | LeftOut]) -> Self:
        """Sort what a source has. Hidden files, and those that systems add, are left out."""
        files: list[SourceFile] = []
        left_out: dict[LeftOut, None] = {}  # in order, a hidden folder once
        for entry in found:
            hidden = _hidden(entry.name)
            if hidden:
                left_out[hidden] = None
            elif isinstance(entry, LeftOut):
                left_out[entry] = None
            else:
                files.append(entry)
        return cls(sorted(files, key=lambda file: file.name), sorted(left_out, key=lambda entry: entry.name))


def hidden_reason(part: str) -> str:
    """Return why a file or folder of this name is left out, or "" if it is not."""
    if part in _OF_SYSTEMS or part.startswith("._"):
        return "is of an operating system"
    return "is hidden: its name begins with a dot" if part.startswith(".") and part not in (".", "..") else ""


def check_file_bytes(size: int) -> None:
    """Raise UnreadableFileError for a file that is too large to be read into memory."""
    if size > MAX_FILE_BYTES:
        raise UnreadableFileError(f"{size / 2**20:.0f} MiB, the largest file read is {MAX_FILE_BYTES / 2**20:.0f} MiB")


def decompressed(file: Any, compression: str) -> Any:
    """Return the content of an open gzip, bzip2 or xz file as a stream."""
    if compression == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=file)
    return bz2.BZ2File(file) if compression == "bzip2" else lzma.LZMAFile(file)


def _hidden(name: str) -> LeftOut | None:
    parts = name.split("/")
    for depth, part in enumerate(parts, start=1):
        if reason := hidden_reason(part):
            folder = "/" if depth < len(parts) else ""
            return LeftOut("/".join(parts[:depth]) + folder, reason)
    return None
