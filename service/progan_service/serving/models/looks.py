"""Looks at the store, over and over. What hangs, such as a network mount, holds up nothing but itself."""

import asyncio
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from progan_service.host.aside import aside, in_time, within
from progan_service.host.tensorflow import import_tensorflow
from progan_service.serving.config import ServerConfig
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.default import DefaultChoice
from progan_service.store.errors import ModelStoreError, NoAnswerError, as_store_error
from progan_service.store.mirror import Mirror
from progan_service.store.model_name import DEFAULT_FILE
from progan_service.store.store import Fingerprint, ModelStore
from progan_service.store.watcher import Found, StoreWatcher

T = TypeVar("T")

log = logging.getLogger(__name__)
_AT_ONCE = 4  # models that are read at the same time
_MOST_LATE = 8  # reads that have not answered; with so many of them no further model is read


class Looks:
    """Reads a store, and brings the copy of one behind a URL up to date.

    store       the local store; the copy of one behind a URL
    reachable   whether the remote store could be listed at the last look; always true for a local one

    Threads: used in one event loop. Each model is read in a thread of its own, a few at a time. What takes longer than
    `hang_s` is left alone until it ends, and its result is used by the next look. So nothing is read twice at a time,
    and the store, the mirror and the watcher need no lock.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        """Raises ModelStoreError when the store does not exist or its cache cannot be used."""
        self._hang_s = config.hang_s
        self._metrics = metrics
        self._remove_private: Callable[[], object] | None = None
        self._mirror = Mirror(config.store, config.cache or self._private()) if isinstance(config.store, str) else None
        self.store = self._mirror.store if self._mirror else self._local(Path(config.store))
        self._watcher = StoreWatcher(self.store)
        self.reachable = self._mirror is None
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._late: dict[str, asyncio.Future[Any]] = {}  # reads that take too long, by place

    async def names(self) -> set[str]:
        """Return the names that models may have, in the store and in the copy of a remote one.

        Raises OSError when the store cannot be listed. For a remote one that cannot be, see `remote_names`.
        """
        return {*await self._read(str(self.store.root), self._watcher.names)}

    async def remote_names(self) -> set[str]:
        """Return the names of the models of the remote store; none without one. Raises OSError when that fails."""
        if not self._mirror:
            return set()
        try:
            await aside(import_tensorflow, "import")  # it takes seconds, which are not those of the store
            names = await self._read(self._mirror.url, self._mirror.models)
        except Exception:
            self.reachable = False
            raise
        self.reachable = True
        return names

    async def default(self) -> DefaultChoice | ModelStoreError:
        """Return the default model that the store names, or why that is not known. Raises nothing."""
        path = self.store.root / DEFAULT_FILE
        if self._mirror and (stale := await self._followed(DEFAULT_FILE, self._mirror.follow_default)):
            return stale
        try:
            return await self._read(str(path), self._watcher.default)
        except Exception as error:
            return as_store_error(path, error)

    async def look(self, name: str) -> Found | ModelStoreError:
        """Return a model as it is in the store, or why it cannot be read. Raises nothing."""
        path = self.store.root / name
        async with self._places:
            if len(self._late) >= _MOST_LATE and str(path) not in self._late:
                return NoAnswerError(f"{path}: is not read, for {len(self._late)} others have not answered yet")
            stale = await self._followed(name, partial(self._mirror.follow, name)) if self._mirror else None
            try:
                found = await self._read(str(path), partial(self._watcher.look, name))
            except Exception as error:
                return as_store_error(path, error)
        return replace(found, stale=stale) if isinstance(found, Found) else found

    async def fingerprint(self, name: str, version: int) -> Fingerprint:
        """Return the fingerprint of a version's files, and copy them first if need be. Raises OSError if that fails."""
        reading = aside(partial(self._fingerprint, name, version), f"files of {name} {version}")
        if not await in_time(reading, self._hang_s):
            self._metrics.hangs.labels("load").inc()
            text = "model %s version %d: its files have not been read for more than %g s; other models do not wait"
            log.warning(text, name, version, self._hang_s)
        return await reading

    def close(self) -> None:
        """Leave the copy to another server, or remove it if nobody else can find it."""
        if self._mirror:
            self._mirror.close()
        if self._remove_private:
            self._remove_private()

    def _local(self, root: Path) -> ModelStore:
        try:
            return within(partial(ModelStore, root), self._hang_s, "open the store")
        except TimeoutError:
            log.error("%s: has not answered for more than %g s; it is read when it answers", root, self._hang_s)
            return ModelStore(root, check=False)

    def _private(self) -> Path:
        """Return a new directory that is removed with this, or at the end of the process."""
        directory = Path(tempfile.mkdtemp(prefix="progan-"))
        self._remove_private = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        return directory

    async def _followed(self, name: str, follow: Callable[[], ModelStoreError | None]) -> ModelStoreError | None:
        """Bring a part of the copy of a remote store up to date; return why it may be not, None if it is."""
        if not self._mirror or not self.reachable:
            return None
        url = f"{self._mirror.url}/{name}"
        try:
            return await self._read(url, follow)
        except Exception as error:
            return as_store_error(url, error)

    async def _read(self, place: str, work: Callable[[], T]) -> T:
        """Return what `work` returns, in a thread aside. Raises NoAnswerError if that takes too long."""
        reading, seconds = self._late.get(place), 0.0
        if reading is None:
            reading, seconds = aside(work, f"read {place}"), self._hang_s
        if await in_time(reading, seconds):
            self._late.pop(place, None)
            result: T = reading.result()
            return result
        if place not in self._late:
            self._late[place] = reading
            self._metrics.hangs.labels("look").inc()
        raise NoAnswerError(f"{place}: has not answered for more than {self._hang_s:g} s; check its disk or mount")

    def _fingerprint(self, name: str, version: int) -> Fingerprint:
        if self._mirror and self.reachable:
            self._mirror.fetch(name, version)
        return self.store.fingerprint(name, version)
