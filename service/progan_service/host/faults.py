"""The border where errors of the system, of TensorFlow and of libraries become errors of ours.

Their texts have error numbers and temporary names in them. Ours name the path that the user gave and say what to do.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from progan_service.errors import ConfigError, FileError, MendableError, ProganError

OUTPUT = "standard output"
_AWAY = "its disk or network mount does not answer; check the mount"
_DENIED = "permission denied; give this user access, or give another path"
_SENTENCES = {
    errno.ENOSPC: "the disk is full; free some space, or give another path",
    errno.EDQUOT: "the disk quota is used up; free some space, or give another path",
    errno.EFBIG: "the file would be larger than the limit on file sizes; raise the limit (`ulimit -f`)",
    errno.EROFS: "the file system is read-only; mount it for writing, or give another path",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOENT: "no such file or directory; check the path, and the mount if it is on one",
    errno.ENOTDIR: "a part of this path is a file, not a directory; give another path",
    errno.EISDIR: "is a directory; give the name of a file",
    errno.EEXIST: "a file of this name, or of a part of it, is in the way; give another path",
    errno.ENOTEMPTY: "already exists; give another path",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.ELOOP: "is a loop of symbolic links; mend the links, or give another path",
    errno.EBUSY: "is in use by another program; wait for it to end, or give another path",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many files are open; close other programs",
    errno.EPIPE: "closed by the program that read it",
    errno.EIO: _AWAY,
    errno.ESTALE: _AWAY,
    errno.ENODEV: _AWAY,
    errno.ENXIO: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.ETIMEDOUT: _AWAY,
    errno.EHOSTDOWN: _AWAY,
    errno.EHOSTUNREACH: _AWAY,
}
_NO_MEMORY = "not enough memory; close other programs, or use a machine with more"


@contextmanager
def named(path: Path | str, kind: type[FileError] = FileError) -> Iterator[None]:
    """Raise a FileError that names `path` for what goes wrong with a file or directory within the block.

    Errors of this program, and those that are not about files, pass through.
    """
    try:
        yield
    except ProganError:
        raise
    except Exception as error:
        number = _number(error)
        if isinstance(error, UnicodeEncodeError):
            require_utf8(path)
        if number not in _SENTENCES:
            raise
        raise kind(f"{path}: {_SENTENCES[number]}") from error


def require_utf8(path: Path | str) -> None:
    """Raise ConfigError for a path that TensorFlow cannot name."""
    if str(path).encode(errors="replace").decode() != str(path):
        raise ConfigError(f"{path}: the name is not UTF-8, as TensorFlow needs it; give another path")


def translated(error: Exception) -> ProganError | None:
    """Return the error of this program that another one amounts to, or None for a bug."""
    if isinstance(error, ProganError):
        return error
    if isinstance(error, MemoryError):
        return MendableError(_NO_MEMORY)
    number = _number(error)
    if number is not None:
        path = getattr(error, "filename", None) or OUTPUT  # only what is printed has no name
        return FileError(f"{path}: {_SENTENCES.get(number, os.strerror(number).lower())}")
    if isinstance(error, OSError):
        return MendableError(str(error))
    return MendableError(_NO_MEMORY) if type(error).__name__ == "ResourceExhaustedError" else None


def _number(error: Exception) -> int | None:
    """Return the error number of the system, None without one. TensorFlow has only its text, at the end of its own."""
    if isinstance(error, OSError):
        return error.errno
    if type(error).__module__.startswith("tensorflow."):
        return next((number for number in _SENTENCES if os.strerror(number) in str(error)), None)
    return None
