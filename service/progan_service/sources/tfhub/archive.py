"""Archives of TF Hub modules, unpacked within limits: plain files only, and none outside of the directory."""

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from progan_service.host.files import temporary_files
from progan_service.sources.tfhub.limits import HubModuleError, Limits, Progress, check_limits

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, FileExistsError, NotADirectoryError)


class _Bounded:
    """The content of an archive as a stream, which raises HubModuleError once it passes the limit."""

    def __init__(self, content: IO[bytes], archive: Path, limits: Limits) -> None:
        self.content, self.archive, self.limits = content, archive, limits
        self.given = -limits.files * 4 * tarfile.BLOCKSIZE  # a few headers and the padding of each file do not count
        self.last_block = b""

    def read(self, size: int) -> bytes:
        content = self.content.read(size)
        self.given += len(content)
        check_limits(self.archive, 0, self.given, self.limits)
        self.last_block = (self.last_block + content)[-tarfile.BLOCKSIZE :]
        return content


def unpack(archive: Path, directory: Path, limits: Limits, progress: Progress) -> None:
    """Unpack a .tar, or a .tar.gz, into an empty directory.

    Raises HubModuleError for a damaged archive, one past the limits, or one with anything but plain files inside it.
    """
    try:
        with archive.open("rb") as file, _decompressed(file) as content:
            bounded = _Bounded(content, archive, limits)
            with tarfile.open(fileobj=bounded, mode="r|") as members:  # type: ignore[call-overload]
                for count, member in enumerate(members, start=1):
                    check_limits(archive, count, member.size, limits)
                    _unpack_member(archive, members, member, directory)
                    progress("unpacking", file.tell(), archive.stat().st_size)
            while bounded.read(2**20):  # to the end, where a .gz has its checksum
                pass
            if any(bounded.last_block):  # an archive ends with zeros; the library does not miss them
                raise tarfile.ReadError("unexpected end of data")
    except HubModuleError:
        raise
    except _DAMAGED as error:
        raise HubModuleError(
            f"{archive}: is no .tar.gz, or breaks off or is damaged ({error}); get it again"
        ) from error


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return gzip.open(file) if compressed else file  # type: ignore[return-value]


def _unpack_member(archive: Path, members: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise HubModuleError(
            f"{archive}: names {member.name!r}, outside of the module; do not trust where it came from"
        )
    if member.isdir():
        (directory / name).mkdir(parents=True, exist_ok=True)
        return
    content = members.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise HubModuleError(f"{archive}: {member.name!r} is a link or a device; a module has files only")
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    with (directory / name).open("xb") as file, temporary_files():
        shutil.copyfileobj(content, file)
