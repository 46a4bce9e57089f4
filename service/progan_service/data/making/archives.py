"""The files of a folder, a zip or a tar, sorted by name and read into memory one at a time.

No file is written under a name that an archive chose. Links and devices in archives are ignored.
"""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from progan_service.data.errors import DatasetError
from progan_service.errors import ProganError
from progan_service.host.faults import named

MAX_FILE_BYTES = 256 * 2**20

_ARCHIVE_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
    *(RuntimeError, NotImplementedError),  # an encrypted zip member; a zip of a version that the library does not know
)
_DECOMPRESSORS: dict[bytes, type[gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {  # by the first bytes of a file
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


class UnreadableFileError(Exception):
    """A file of a source cannot be read. The message is the reason."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a source: its path inside the source, with `/`, and its content on demand."""

    name: str
    size_bytes: int
    _read: Callable[[], bytes]

    def read(self) -> bytes:
        """Return the content.

        Raises:
            UnreadableFileError: the file is larger than 256 MiB, encrypted, damaged, or not permitted.
        """
        if self.size_bytes > MAX_FILE_BYTES:
            raise UnreadableFileError(
                f"{self.size_bytes / 2**20:.0f} MiB, the largest file read is {MAX_FILE_BYTES / 2**20:.0f} MiB"
            )
        try:
            return self._read()
        except _ARCHIVE_ERRORS as error:
            raise UnreadableFileError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def open_source(source: Path, scratch: Path) -> Iterator[list[SourceFile]]:
    """Return the files of `source`, sorted by name. They can be read inside the `with` block.

    Args:
        source: a folder (searched to any depth), a zip, or a tar, which may be compressed by gzip, bzip2 or xz.
        scratch: a directory for the decompressed bytes of a tar, which is read in any order.

    Raises:
        DatasetError: the path does not exist, is another kind of file, or a damaged archive.
    """
    if source.is_dir():
        with _damage_named(source):
            files = _sorted(_folder_files(source))
        yield files
    elif not source.exists():
        raise DatasetError(f"{source}: does not exist: give a folder, a zip or a tar of images")
    elif zipfile.is_zipfile(source):
        with _damage_named(source):
            archive = zipfile.ZipFile(source)
        with archive:
            yield _sorted(_zip_files(archive))
    else:
        with ExitStack() as stack:
            with _damage_named(source):
                file = stack.enter_context(_plain_tar(source, scratch))
                tar = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))
                files = _sorted(_tar_files(tar))
            yield files


def _sorted(files: Iterator[SourceFile]) -> list[SourceFile]:
    return sorted(files, key=lambda file: file.name)


def _folder_files(source: Path) -> Iterator[SourceFile]:
    def refuse(error: OSError) -> None:
        raise error  # by default os.walk ignores a folder that it may not read

    for folder, _, names in os.walk(source, onerror=refuse):
        for path in (Path(folder, name) for name in names):
            if path.is_file():
                yield SourceFile(path.relative_to(source).as_posix(), path.stat().st_size, path.read_bytes)


def _zip_files(archive: zipfile.ZipFile) -> Iterator[SourceFile]:
    def read(member: zipfile.ZipInfo) -> bytes:
        with archive.open(member) as content:
            return content.read(member.file_size)  # bounded: a member may unpack to more than its stated size

    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if not member.is_dir() and kind in (0, stat.S_IFREG):  # 0: made on a system without Unix modes
            yield SourceFile(member.filename, member.file_size, partial(read, member))


def _tar_files(archive: tarfile.TarFile) -> Iterator[SourceFile]:
    def read(member: tarfile.TarInfo) -> bytes:
        content = archive.extractfile(member)
        return content.read() if content else b""

    for member in archive.getmembers():
        if member.isreg():
            yield SourceFile(member.name.removeprefix("./"), member.size, partial(read, member))
    # tarfile takes a damaged header for the end of the archive. The true end is a block of zeros or the end of file.
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"bad header at byte {archive.offset}")


@contextmanager
def _plain_tar(source: Path, scratch: Path) -> Iterator[IO[bytes]]:
    """Open the tar as a seekable file: the file itself, or its decompressed content in a temporary one."""
    with source.open("rb") as file:
        magic = file.read(5)
        file.seek(0)
        decompress = next((open_ for prefix, open_ in _DECOMPRESSORS.items() if magic.startswith(prefix)), None)
        if decompress is None:
            yield file
            return
    with tempfile.TemporaryFile(dir=scratch) as spool:
        with decompress(source) as content:
            shutil.copyfileobj(content, spool, 2**20)
        spool.seek(0)
        yield spool


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    """Raise DatasetError, which names the source, for the errors of a damaged archive."""
    try:
        with named(source):
            yield
    except ProganError:
        raise
    except _ARCHIVE_ERRORS as error:
        raise DatasetError(f"{source}: cannot be read as a folder, zip or tar of images: {error}") from None
