"""The files of a folder, to any depth. Links are followed."""

import os
import stat
from collections.abc import Iterator
from heapq import heappop, heappush
from pathlib import Path

from progan_service.data.making.collection.files import LeftOut, SourceFile, check_file_bytes, hidden_reason
from progan_service.host.faults import named

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def folder_files(source: Path) -> Iterator[SourceFile | LeftOut]:
    """Yield all files, in no order that counts. Raises FileError, naming a folder that cannot be read.

    A linked folder is read after all that are no links, and under the name of its link. Each folder is read once: so a
    loop of links ends, and links that fan out cannot multiply the files.
    """

    def read(name: str, limit: int | None) -> bytes:
        with open(os.path.join(source, name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if limit is None:
                check_file_bytes(size)
            return file.read(size if limit is None else limit)

    seen = {_identity(os.stat(source))}
    folders, links = [""], list[str]()  # names, with "/" at their end
    while folders or links:
        if not folders:
            link = heappop(links)
            identity = _identity(os.stat(os.path.join(source, link)))
            if identity in seen:
                yield LeftOut(link.removesuffix("/"), "is a link to a folder that is read already")
            else:
                seen.add(identity)
                folders.append(link)
            continue
        folder = folders.pop()
        path = os.path.join(source, folder) if folder else os.fspath(source)
        with named(path), os.scandir(path) as entries:
            for entry in entries:
                name = folder + entry.name
                reason, kind = hidden_reason(entry.name), _kind(entry)
                if reason:
                    yield LeftOut(name + "/" * (kind == "folder"), reason)
                elif kind == "folder":
                    seen.add(_identity(entry.stat()))
                    folders.append(f"{name}/")
                elif kind == "linked folder":
                    heappush(links, f"{name}/")
                elif kind == "file":
                    yield SourceFile(name, read, name)
                else:
                    yield LeftOut(name, kind)


def _kind(entry: os.DirEntry[str]) -> str:
    """Return "file", "folder", "linked folder", or why there is nothing to read."""
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    if entry.is_file(follow_symlinks=False):
        return "file"
    link = "a link to " if entry.is_symlink() else ""
    try:
        mode = entry.stat().st_mode
    except OSError:  # no such file, or a loop
        return "is a link to nothing"
    if stat.S_ISDIR(mode):
        return "linked folder"
    return "file" if stat.S_ISREG(mode) else f"is {link}{_KINDS.get(stat.S_IFMT(mode), 'a device')}"


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
