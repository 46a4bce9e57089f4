"""What is in a store, look after look. Nothing that is wrong with one model or version hides the others."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from progan_service.host.faults import named
from progan_service.store.default import DefaultChoice
from progan_service.store.errors import ModelStoreError, UnreadableError, as_store_error
from progan_service.store.metadata import METADATA_FILE, ModelMetadata
from progan_service.store.model_name import DEFAULT_FILE
from progan_service.store.rollout import ROLLOUT_FILE, Rollout
from progan_service.store.store import ModelStore

T = TypeVar("T")
Stamp = tuple[int, ...]  # inode, size in bytes, modification and change time in ns

_AT_REST_NS = 2 * 10**9  # a file that changed more recently may change once more and show the same time


@dataclass(frozen=True)
class Found:
    """A model as it is in the store: its versions, newest first, with their metadata or what is wrong.

    stale   why this may be not the latest, None if it is
    """

    versions: dict[int, ModelMetadata | ModelStoreError]
    rollout: Rollout | ModelStoreError
    stale: ModelStoreError | None = None


class StoreWatcher:
    """Reads a store again and again. A file is read again only when it has changed, whether it was good or bad.

    Threads: not synchronized; one thread at a time looks at a model. What a look has kept is replaced as a whole.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._kept: dict[str, Kept] = {}  # by model
        self._kept_default = Kept()

    def names(self) -> list[str]:
        """Return the names that models of the store may have. Raises OSError when it cannot be read."""
        names = self._store.names()
        self._kept = {name: self._kept[name] for name in names if name in self._kept}
        return names

    def default(self) -> DefaultChoice | ModelStoreError:
        """Return the default model that is chosen now, or why it cannot be read. Raises nothing."""
        kept = Kept()
        found = _read(self._store.root / DEFAULT_FILE, self._store.default, self._kept_default, kept)
        self._kept_default = kept
        return found

    def look(self, name: str) -> Found | ModelStoreError:
        """Return a model as it is in the store now, or why its versions cannot be listed. Raises nothing."""
        store, directory, kept = self._store, self._store.root / name, Kept()
        try:
            with named(directory, UnreadableError):
                numbers = store.versions(name)
        except Exception as error:
            return as_store_error(directory, error)

        def read(path: Path, parse: Callable[[], T]) -> T | ModelStoreError:
            return _read(path, parse, self._kept.get(name, Kept()), kept)

        versions = {
            number: read(store.path(name, number) / METADATA_FILE, partial(store.metadata, name, number))
            for number in numbers
        }
        rollout = read(directory / ROLLOUT_FILE, partial(store.rollout, name))
        self._kept[name] = kept
        return Found(versions, rollout)


class Kept(dict[Path, tuple[Stamp, Any]]):
    """What files contained, or what was wrong with them, when they had these stamps."""


def _read(path: Path, parse: Callable[[], T], before: Kept, kept: Kept) -> T | ModelStoreError:
    """Return what a file contains or what is wrong with it, as it was before if the file has not changed."""
    stamp: Stamp = ()
    try:
        stamp = _stamp(path)
        if stamp and path in before and before[path][0] == stamp:
            found: T | ModelStoreError = before[path][1]
        else:
            found = parse()
    except Exception as error:
        found = as_store_error(path, error)
    if stamp and not isinstance(found, UnreadableError):
        kept[path] = (stamp, found)
    return found


def _stamp(path: Path) -> Stamp:
    """Return what changes when the file changes; empty if nothing can be relied on yet, or there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    if time.time_ns() - found.st_mtime_ns < _AT_REST_NS:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
