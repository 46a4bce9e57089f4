"""Unpacks into temporary files, within a bound: a small archive may unpack to more than any disk holds."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from progan_service.data.errors import DatasetError
from progan_service.errors import FileError
from progan_service.host.faults import named
from progan_service.progress import Progress

MAX_RATIO = 100
ALWAYS_BYTES = 2**30  # so much may unpack whatever the size of the archive

_SHARE = 0.9  # of the free disk
_PIECE_BYTES = 2**20
_RULE = "unpack it yourself, if it can be trusted, and give the folder"


class Bound:
    """Counts bytes that an archive unpacks to: at most 100 times its size, or 1 GiB if that is more."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._left = max(ALWAYS_BYTES, MAX_RATIO * source.stat().st_size)

    def take(self, size: int) -> None:
        """Count so many bytes. Raises DatasetError beyond the bound."""
        self._left -= size
        if self._left < 0:
            raise DatasetError(
                f"{self._source}: unpacks to more than {MAX_RATIO} times its size and more than "
                f"{ALWAYS_BYTES / 2**30:.0f} GiB: {_RULE}"
            )


@dataclass(frozen=True)
class Scratch:
    """A place for temporary files.

    directory   where they are made
    place       the path that the user knows it by
    progress    called with ("Unpacking MiB", done, 0)
    """

    directory: Path
    place: Path
    progress: Progress


@contextmanager
def spooled(content: IO[bytes], source: Path, scratch: Scratch) -> Iterator[IO[bytes]]:
    """Yield what the file `source` unpacks to as a temporary file, which can be read in any order.

    Raises:
        DatasetError: it unpacks to more than the bound.
        FileError: it unpacks to more than nine tenths of the free disk, or the disk is full.
        OSError, EOFError, zlib.error, lzma.LZMAError: it is damaged.
    """
    with named(scratch.place):
        spool = tempfile.TemporaryFile(dir=scratch.directory)  # noqa: SIM115 - closed by the next `with`
        room = int(_SHARE * shutil.disk_usage(scratch.directory).free)
    bound, done = Bound(source), 0
    with spool:
        while piece := content.read(_PIECE_BYTES):
            bound.take(len(piece))
            done += len(piece)
            if done > room:
                raise FileError(
                    f"{source}: unpacks to more than nine tenths of the free disk ({room / 2**30:.1f} GiB): "
                    f"free some space, or unpack it elsewhere and give the folder"
                )
            with named(scratch.place):
                spool.write(piece)
            if done % (64 * _PIECE_BYTES) == 0:
                scratch.progress("Unpacking MiB", done // 2**20, 0)
        with named(scratch.place):
            spool.seek(0)  # writes what is buffered
        yield spool
