"""A model store behind a URL, copied into a local directory: which versions there are at once, their files on demand.

The remote store is anything that `tf.io.gfile` reads. A rename is not atomic on object stores, so a version may be met
half uploaded; nothing is decided about that here: the digests of a version decide, when its copy is verified. A copied
file carries the modification time of the remote one, and is copied again when that or the size is another. Needs no
TensorFlow until it copies.
"""

import fcntl
import os
import re
import shutil
import time
import weakref
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from progan_service.host.faults import named
from progan_service.host.files import remove_partials, replaced
from progan_service.host.tensorflow import import_tensorflow
from progan_service.store.errors import DamagedVersionError, ModelStoreError, as_store_error
from progan_service.store.metadata import MAX_METADATA_BYTES, METADATA_FILE
from progan_service.store.model_name import DEFAULT_FILE, MODEL_NAME
from progan_service.store.rollout import ROLLOUT_FILE
from progan_service.store.store import VERSION, ModelStore

Stamp = tuple[int, int]  # size in bytes, modification time in ns (0 where the file system gives none)
Outline = dict[str, Stamp | None]  # the stamps of small files, by path

_MARK = ".copy-of"
_AT_ONCE_BYTES = 16 * 2**20
_COARSEST_NS = 2 * 10**9  # of the modification times that file systems give


class Mirror:
    """The copy of one remote store, for one server: `store` is what has been copied, `url` where it comes from.

    Threads: not synchronized. One thread at a time lists the models, follows a model, or fetches a version; several may
    do so for different ones. Any thread may call `close`.
    """

    def __init__(self, url: str, cache: Path) -> None:
        """`cache` is made if it is missing; it keeps what was copied.

        Raises ModelStoreError when it holds other models, which would be removed; FileError when it cannot be written.
        """
        self.url = url.rstrip("/")
        self._remote_models: set[str] = set()
        self._has_default = False
        with named(cache):
            cache.mkdir(parents=True, exist_ok=True)
            self.store = ModelStore(cache)
            self._claim(cache / _MARK)
            remove_partials(cache)

    def close(self) -> None:
        """Leave the directory to another server."""
        self._release()

    def models(self) -> set[str]:
        """Return the names of the remote models, and of those that have been copied; `follow` each of them.

        Raises OSError when the remote store cannot be listed: then nothing may be followed.
        """
        entries = self._entries("")
        self._remote_models = {*self._directories("", entries, MODEL_NAME)}
        self._has_default = DEFAULT_FILE in entries
        return {*self._remote_models, *self.store.models()}

    def follow_default(self) -> ModelStoreError | None:
        """Bring default.json in line with the remote; return why it could not be, None if it was."""

        def copy() -> None:
            self._copy_small(DEFAULT_FILE, self._stamp(DEFAULT_FILE) if self._has_default else None)

        return self._problem(DEFAULT_FILE, copy)

    def follow(self, name: str) -> ModelStoreError | None:
        """Bring the rollout of a model, and its versions with no more than their progan.json, in line with the remote.

        What is gone there goes here. Return what could not be brought in line and stays as it is here; None if all was.
        """
        try:
            outline = self._outline(name) if name in self._remote_models else {}
        except Exception as error:
            return as_store_error(f"{self.url}/{name}", error)
        problems = [self._problem(path, partial(self._copy_small, path, stamp)) for path, stamp in outline.items()]
        problems.append(self._problem(name, partial(self._remove_gone, name, outline)))
        return next(filter(None, problems), None)

    def fetch(self, name: str, version: int) -> None:
        """Bring the files of a version here that its progan.json lists; those that are not listed are removed.

        One that is not in the remote store (yet) is left out. Raises OSError.
        """
        try:
            listed = self.store.metadata(name, version).files
        except DamagedVersionError:
            return  # whoever verifies the version says so
        path = self.store.path(name, version)
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.relative_to(path).as_posix() not in (METADATA_FILE, *listed):
                file.unlink()
        for listed_file in sorted(listed):
            stamp = self._stamp(f"{name}/{version}/{listed_file}")
            if stamp and stamp != _stamp_of(path / listed_file):
                self._copy(f"{name}/{version}/{listed_file}", stamp)

    def _claim(self, mark: Path) -> None:
        lock = os.open(mark, os.O_RDWR | os.O_CREAT, 0o644)
        self._release = weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelStoreError(f"{mark.parent}: another server uses it; each needs a directory of its own") from None
        of = mark.read_text().strip() if mark.exists() else ""
        if of == self.url:
            return
        if of:
            raise ModelStoreError(f"{mark.parent}: is the copy of {of}, not of {self.url}; give another directory")
        if self.store.models():
            raise ModelStoreError(f"{mark.parent}: has models that are no copy of {self.url}; give another directory")
        mark.write_text(f"{self.url}\n")  # in place: the lock is on this very file

    def _outline(self, name: str) -> Outline:
        """Return the small files of a model: progan.json of each version, None where it is missing, and the rollout."""
        entries = self._entries(name)
        paths = [f"{name}/{version}/{METADATA_FILE}" for version in self._directories(name, entries, VERSION)]
        if ROLLOUT_FILE in entries:
            paths.append(f"{name}/{ROLLOUT_FILE}")
        return {path: self._stamp(path) for path in paths}

    def _problem(self, path: str, work: Callable[[], None]) -> ModelStoreError | None:
        """Return why the work at a path failed, None if it did not."""
        try:
            work()
        except Exception as error:
            return as_store_error(f"{self.url}/{path}", error)
        return None

    def _remove_gone(self, name: str, outline: Container[str]) -> None:
        if f"{name}/{ROLLOUT_FILE}" not in outline:
            (self.store.root / name / ROLLOUT_FILE).unlink(missing_ok=True)
        for version in self.store.versions(name):
            if f"{name}/{version}/{METADATA_FILE}" not in outline:
                self.store.remove(name, version)
        if not self.store.versions(name):
            shutil.rmtree(self.store.root / name)

    def _copy_small(self, path: str, stamp: Stamp | None) -> None:
        """Copy a file that may have changed. Where its stamp cannot tell, reading it costs little."""
        local = self.store.root / path
        local.parent.mkdir(parents=True, exist_ok=True)
        if stamp is None:
            local.unlink(missing_ok=True)
            return
        size, mtime_ns = stamp
        if time.time_ns() - mtime_ns < _COARSEST_NS:
            mtime_ns = 0  # it may change once more and show the same time
        if size > MAX_METADATA_BYTES:
            self._note_size(local, size)
        elif not mtime_ns or (size, mtime_ns) != _stamp_of(local):
            self._copy(path, (size, mtime_ns))

    def _note_size(self, local: Path, size: int) -> None:
        """Let a file have this size without any content: what is too large is refused by its size."""
        with replaced(local) as partial_file:
            partial_file.touch()
            os.truncate(partial_file, size)

    def _copy(self, path: str, stamp: Stamp) -> None:
        with replaced(self.store.root / path) as partial:
            with self._remote(path) as (gfile, url), gfile.GFile(url, "rb") as remote, partial.open("wb") as copy:
                shutil.copyfileobj(remote, copy, _AT_ONCE_BYTES)
            os.utime(partial, ns=(stamp[1], stamp[1]))

    def _entries(self, path: str) -> list[str]:
        """What is in a remote directory; object stores end the names of directories with a slash."""
        with self._remote(path) as (gfile, url):
            gfile.stat(url)  # tells what is wrong, where listdir says "not found" whatever it is
            entries: list[str] = gfile.listdir(url)
            return entries

    def _directories(self, path: str, entries: list[str], name: re.Pattern[str]) -> list[str]:
        """Those of the entries that are directories with such a name."""
        named = [entry for entry in entries if name.fullmatch(entry.rstrip("/"))]
        return [entry.rstrip("/") for entry in named if entry.endswith("/") or self._is_directory(f"{path}/{entry}")]

    def _is_directory(self, path: str) -> bool:
        with self._remote(path) as (gfile, url):
            return bool(gfile.stat(url).is_directory)

    def _stamp(self, path: str) -> Stamp | None:
        """None when there is no such remote file."""
        try:
            with self._remote(path) as (gfile, url):
                found = gfile.stat(url)
        except FileNotFoundError:
            return None
        return found.length, found.mtime_nsec

    @contextmanager
    def _remote(self, path: str) -> Iterator[tuple[Any, str]]:
        """tf.io.gfile, and the URL for it; what it raises within the block becomes an OSError that names the URL."""
        import_tensorflow()
        import tensorflow as tf

        url = f"{self.url}/{path.strip('/')}".rstrip("/")
        try:
            yield tf.io.gfile, url
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(f"{url}: not found") from error
        except tf.errors.OpError as error:
            raise OSError(f"{url}: {' '.join(error.message.split()) or type(error).__name__}") from error
        except UnicodeDecodeError as error:
            raise OSError(f"{url}: a name in it is not UTF-8 ({error})") from error


def _stamp_of(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
