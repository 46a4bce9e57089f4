"""Files and directories: written so that they appear whole or not at all, and outlast a power cut.

What is being written stands beside its place, as `.NAME.xxxxxxxx.partial` with eight random hexadecimal digits. A
process that is killed leaves it there: `remove_partials` finds it.
"""

import fcntl
import glob
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import chain
from pathlib import Path

from progan_service.errors import ConfigError, FileError
from progan_service.formats import FormatError
from progan_service.host.faults import named
from progan_service.host.signals import signals_raise

_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
_ABANDONED_S = 60.0  # a partial directory that is younger may be locked in a moment
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial", re.DOTALL)


def synced(path: Path) -> None:
    """Bring a file's content, or the names in a directory, to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def content(path: Path) -> bytes:
    """Return the content of a file that the user named. It never waits, as reading a pipe would.

    Raises ConfigError when there is none and for what is no file, else FileError.
    """
    with named(path):
        try:
            if kind := _kind(path.stat()):
                raise ConfigError(f"{path}: is {kind}: must be a file")
            with _open_at_once(path) as file:
                return file.readall()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def small_content(path: Path, max_bytes: int) -> bytes | None:
    """Return the content of a regular file of at most `max_bytes`, None if there is no such file.

    It never waits, as reading a pipe would. Raises FormatError for a larger file and for what is no file, OSError when
    it cannot be read.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if kind := _kind(found):
        raise FormatError(f"is {kind}: must be a file")
    content = b""
    if found.st_size <= max_bytes:
        with _open_at_once(path) as file:
            content = file.read(max_bytes + 1) or b""
    if (size := max(found.st_size, len(content))) > max_bytes:
        raise FormatError(f"has {size} bytes: must have at most {max_bytes}")
    return content


def _kind(found: os.stat_result) -> str:
    """Return what it is instead of a file, such as "a directory", or '' for a file."""
    return "" if stat.S_ISREG(found.st_mode) else _KINDS.get(stat.S_IFMT(found.st_mode), "a device")


def _open_at_once(path: Path) -> FileIO:
    """Open a file to read it. A pipe that has taken its place does not make it wait."""
    return FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def linked(file: Path, link: Path) -> None:
    """Make a second name for a file, or a copy where its file system has no links. Makes missing parents.

    Raises OSError.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, link)
    except OSError:
        shutil.copy2(file, link)


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a directory for temporary files, removed at the end. Raises FileError, naming TMPDIR."""
    with temporary_files():
        directory = tempfile.TemporaryDirectory(prefix="progan-", ignore_cleanup_errors=True)
    with directory as path:
        yield Path(path)


@contextmanager
def temporary_files(directory: Path | None = None) -> Iterator[None]:
    """Raise FileError, naming TMPDIR, for what goes wrong with temporary files in the directory for them."""
    try:
        place = directory or tempfile.gettempdir()
    except FileNotFoundError:
        raise FileError("TMPDIR: no directory for temporary files can be written; free some space, or set it") from None
    with named(f"{place} (temporary files; TMPDIR names another place)"):
        yield


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield the name of a partial file to write; at the end it becomes `path`, in place of an earlier file.

    Makes missing parents. On any failure an earlier file stays as it was and nothing is left behind; but if the earlier
    file is already replaced when the sync of its directory fails, the new one stays. Raises FileError.
    """
    partial, is_new = partial_of(path), not path.exists()
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            synced(partial)
            partial.replace(path)
            _sync_name(path, back_to=partial if is_new else None)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield an empty partial directory to fill; at the end it becomes `path`, which must not exist.

    Makes missing parents. On any failure nothing is left behind, and SIGTERM is one: it is raised as SystemExit within
    the block, as SIGHUP is. Raises ConfigError when `path` exists, and FileError.
    """
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path}: already exists: give the name of a new directory")
    _remove_abandoned(path)
    with partial_directory(path) as partial:
        yield partial
        move_into_place(partial, path)


@contextmanager
def partial_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path`, and remove it at the end unless it was moved.

    Makes missing parents. SIGTERM and SIGHUP are raised as SystemExit within the block. Raises FileError.
    """
    partial = partial_of(path)
    with signals_raise(), named(path):
        try:
            partial.mkdir(parents=True)
            with _held(partial):
                yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a partial directory to `path`, all of it synced; after a failed sync it is back where it was.

    Raises OSError.
    """
    for written in (*partial.rglob("*"), partial):
        synced(written)
    partial.rename(path)
    _sync_name(path, back_to=partial)


def partial_of(path: Path) -> Path:
    """Return a new name beside `path` for what is not whole."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def is_partial(path: Path) -> bool:
    return _PARTIAL.fullmatch(path.name) is not None


def remove_partials(directory: Path, older_than_s: float = 0) -> int:
    """Remove the partial files and directories anywhere in `directory`; return how many they were."""
    removed = 0
    for folder, *names in os.walk(directory):
        for partial in filter(is_partial, (Path(folder, name) for name in chain(*names))):
            with suppress(FileNotFoundError):  # whoever writes it has finished meanwhile
                removed += _removed(partial, older_than_s)
    return removed


@contextmanager
def _held(directory: Path, kind: int = fcntl.LOCK_SH) -> Iterator[bool]:
    """Lock a directory, and yield whether that is possible. The lock ends with its process, however that ends."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError:  # it is held, or its file system has no locks
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Remove the partial directories of `path` that processes left which were killed."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.partial"):
        with suppress(OSError), _held(partial, fcntl.LOCK_EX) as is_abandoned:
            if is_abandoned:
                _removed(partial, _ABANDONED_S)


def _removed(partial: Path, older_than_s: float) -> bool:
    found = partial.lstat()
    if time.time() - found.st_mtime < older_than_s:
        return False
    shutil.rmtree(partial) if stat.S_ISDIR(found.st_mode) else partial.unlink()
    return True


def _sync_name(path: Path, *, back_to: Path | None) -> None:
    try:
        synced(path.parent)
    except OSError:
        if back_to:
            path.rename(back_to)
        raise
