"""The files of a tar."""

import os
import tarfile
import threading
from collections.abc import Iterator
from typing import IO

from progan_service.data.making.collection.files import LISTED_AT_ONCE, LeftOut, SourceFile, check_file_bytes
from progan_service.data.making.collection.members import Link, Members
from progan_service.progress import Progress


def tar_files(file: IO[bytes], progress: Progress) -> Iterator[SourceFile | LeftOut]:
    """Yield the files of an open tar, which is not compressed. Raises what tarfile raises for a damaged one.

    Args:
        file: the tar, with a position of its own.
        progress: called with ("Listing", members, 0), now and then.
    """
    file.seek(0)
    archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - it holds nothing but the file
    lock = threading.Lock()

    def read(place: tuple[int, int] | tarfile.TarInfo, limit: int | None) -> bytes:
        if isinstance(place, tarfile.TarInfo):
            check_file_bytes(place.size)
            with lock:
                content = archive.extractfile(place)
                return content.read(-1 if limit is None else limit) if content else b""
        start, size = place
        if limit is None:
            check_file_bytes(size)
        return _read_at(file, start, size if limit is None else min(size, limit))

    members, count = Members(), 0
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # a million would take gigabytes
        count += 1
        if count % LISTED_AT_ONCE == 0:
            progress("Listing", count, 0)
        if member.issparse():
            members.add(member.name, member)
        elif member.isreg():
            members.add(member.name, (member.offset_data, member.size))
        elif member.islnk():
            members.add(member.name, Link.hard(member.linkname))
        elif member.issym():
            members.add(member.name, Link.symbolic(member.name, member.linkname))
        elif not member.isdir():
            members.leave_out(member.name, "is a named pipe" if member.isfifo() else "is a device")
    _check_end(archive, file)
    for found in members.resolved():
        yield found if isinstance(found, LeftOut) else SourceFile(found[0], read, found[1])


def _read_at(file: IO[bytes], start: int, size: int) -> bytes:
    """Read without the file's own position, which other threads would move."""
    content: list[bytes] = []
    while size and (part := os.pread(file.fileno(), size, start)):
        content.append(part)
        start, size = start + len(part), size - len(part)
    if size:
        raise tarfile.ReadError("unexpected end of data")
    return b"".join(content)


def _check_end(archive: tarfile.TarFile, file: IO[bytes]) -> None:
    """Raise for a damaged header, which tarfile takes for the end of the archive: zeros or the end of the file."""
    file.seek(archive.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"bad header at byte {archive.offset}")
