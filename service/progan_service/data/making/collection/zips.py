"""The files of a zip."""

import stat
import zipfile
from collections.abc import Iterator
from typing import IO

from progan_service.data.making.collection.files import LeftOut, SourceFile, check_file_bytes
from progan_service.data.making.collection.members import Link, Members
from progan_service.data.making.collection.unpacking import Bound

_MAX_TARGET_BYTES = 4096
_END = b"PK\5\6"  # of the record at the end, which is followed by the number of this part
_END_BYTES = 22 + 65535  # with the longest comment


def zip_files(archive: zipfile.ZipFile, bound: Bound) -> Iterator[SourceFile | LeftOut]:
    """Yield the files of an open zip. Raises what zipfile raises for a damaged one, and what the bound raises."""

    def read(member: zipfile.ZipInfo, limit: int | None) -> bytes:
        if limit is None:
            check_file_bytes(member.file_size)
        with archive.open(member) as content:  # bounded: a member may unpack to more than its stated size
            return content.read(member.file_size if limit is None else limit)

    members = Members()
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        bound.take(member.file_size)
        if stat.S_ISLNK(kind):
            members.add(member.filename, Link.symbolic(member.filename, _target(archive, member)))
        elif member.is_dir():
            continue
        elif kind in (0, stat.S_IFREG):  # 0: made on a system without Unix modes
            members.add(member.filename, member)
        else:
            members.leave_out(member.filename, "is a device, a pipe or a socket")
    for found in members.resolved():
        yield found if isinstance(found, LeftOut) else SourceFile(found[0], read, found[1])


def is_part_of_a_split_zip(file: IO[bytes]) -> bool:
    """Tell whether an open zip is the last part of several. The first part has no such record and is no zip at all."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_BYTES))
    end = file.read()
    number = end[(at := end.rfind(_END)) + 4 : at + 6] if _END in end else b""
    return number not in (b"", b"\0\0", b"\xff\xff")


def _target(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    with archive.open(member) as content:
        return content.read(_MAX_TARGET_BYTES).decode("utf-8", "surrogateescape")
