"""Versions come into memory and leave it, in a thread of their own, while batches run in others."""

import asyncio
import gc
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from progan_service.host.tensorflow import import_tensorflow
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError, DeviceThread, Run
from progan_service.serving.config import ServerConfig
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.room import NoRoomError, estimated_bytes, fits, require_room
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.errors import ModelStoreError
from progan_service.store.mirror import Mirror
from progan_service.store.store import Fingerprint, ModelStore
from progan_service.store.watcher import Found, StoreWatcher

if TYPE_CHECKING:
    from progan_service.serving.models.servable import DeviceMemory, Servable

T = TypeVar("T")


class Loader:
    """Reads the store and loads versions. Of a store behind a URL it reads a copy.

    reachable   whether the last `sync` brought the copy up to date; always true without a copy

    Threads: the event loop calls everything that is public. The methods that read the store, load and unload hand their
    work to the one loader thread and wait, so that no two of them run at a time; the store, the mirror and TensorFlow's
    loading are used there only. Batches run in a thread for each device (`_runners`). These threads only look up
    `_servables`: a version stays there from before its first batch until after its last call. So there is no lock.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        """Raises ModelStoreError when the store does not exist or its cache cannot be used."""
        self._config = config
        self._metrics = metrics
        self._mirror = Mirror(config.store, config.cache or self._private()) if isinstance(config.store, str) else None
        self._store = self._mirror.store if self._mirror else ModelStore(Path(config.store))
        self._watcher = StoreWatcher(self._store)
        self.reachable = self._mirror is None
        self._devices: dict[DeviceThread, str] = {}  # and their names in TensorFlow
        self._loader_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._memories: dict[str, DeviceMemory] = {}  # by device
        self._needs: dict[str, int] = {}  # the bytes that versions took on a device, by digest
        self._servables: dict[tuple[str, int], dict[str, Servable]] = {}  # by device

    async def sync(self) -> None:
        """Bring a copied store up to date, except for the files of versions. Raises OSError when that fails."""
        if self._mirror:
            self.reachable = False
            await self._in_thread(self._mirror.sync)
            self.reachable = True

    async def read_store(self) -> dict[str, Found | ModelStoreError]:
        """Return the models that are in the store now. Raises OSError when it cannot be read."""
        return await self._in_thread(self._look)

    async def fingerprint(self, name: str, version: int) -> Fingerprint:
        """Return the fingerprint of a version's files, and copy them first if need be. Raises OSError if that fails."""
        return await self._in_thread(lambda: self._fingerprint(name, version))

    async def load(self, name: str, version: int) -> LoadedVersion:
        """Load a version, verify its files and its golden pictures, and warm it up.

        Raises DamagedVersionError when the files are not the published ones, ModelStoreError when they are and the
        images are wrong, NoRoomError when it does not fit into memory beside what is loaded.
        """
        started = time.monotonic()
        servable, memory_bytes = await self._in_thread(lambda: self._load(name, version))
        self._metrics.model_load_duration.observe(time.monotonic() - started)
        self._metrics.model_memory.labels(name, str(version)).set(memory_bytes)
        sizes = servable.batch_sizes
        batching = replace(self._config.batching, max_batch_size=sizes[-1], allowed_batch_sizes=sizes)
        batcher = DynamicBatcher(self._runners(name, version), batching, self._metrics, servable.largest_batch())
        loaded = LoadedVersion(name, version, servable.metadata, servable.precision, memory_bytes, batcher, Gate())
        self._metrics.model_info.labels(*loaded.info).set(1)
        return loaded

    async def has_room(self, name: str, version: int) -> bool:
        """Return whether a version that did not fit into memory would fit now."""
        return await self._in_thread(lambda: self._has_room(name, version))

    async def unload(self, loaded: LoadedVersion) -> None:
        """Free the memory of a version that no call uses any more."""
        loaded.batcher.close()
        self._metrics.model_info.remove(*loaded.info)
        self._metrics.model_memory.remove(loaded.name, str(loaded.number))
        for size in self._config.batching.allowed_batch_sizes:
            self._metrics.inference_duration.remove(loaded.name, str(loaded.number), str(size))
        await self._in_thread(lambda: self._forget(loaded.name, loaded.number))

    def close(self) -> None:
        """End the threads after their current work."""
        if self._mirror:
            self._mirror.close()
        for thread in self._devices:
            thread.close()
        self._loader_thread.shutdown(wait=False, cancel_futures=True)

    def _private(self) -> Path:
        """Return a new directory that is removed with the loader, or at the end of the process."""
        directory = Path(tempfile.mkdtemp(prefix="progan-"))
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        return directory

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loader_thread, work)

    def _fingerprint(self, name: str, version: int) -> Fingerprint:
        if self._mirror and self.reachable:
            self._mirror.fetch(name, version)
        return self._store.fingerprint(name, version)

    def _look(self) -> dict[str, Found | ModelStoreError]:
        models = {}
        for name in self._watcher.names():
            found = self._watcher.look(name)
            if isinstance(found, Found) and self._mirror:
                found = replace(found, stale=self._mirror.problems.get(name))
            if isinstance(found, ModelStoreError) or found.versions:
                models[name] = found
        return models

    def _load(self, name: str, version: int) -> "tuple[Servable, int]":
        """Load the version on all devices. Return the servable of the first one, and the bytes that all take."""
        # Imported in this thread: TensorFlow takes seconds to import, and the ports are open before.
        import_tensorflow()
        from progan_service.serving.models.servable import DeviceMemory, prepare_devices

        if not self._devices:
            names = prepare_devices() or [""] * self._config.replicas
            self._devices = {DeviceThread(f"model {number}"): device for number, device in enumerate(names)}
            self._memories = {device: DeviceMemory(device) for device in names}
            gc.freeze()  # later collections skip all that is in memory now, such as TensorFlow
        loaded = {device: self._load_on(device, name, version) for device in self._memories}
        self._servables[name, version] = {device: servable for device, (servable, _) in loaded.items()}
        return next(iter(loaded.values()))[0], sum(taken_bytes for _, taken_bytes in loaded.values())

    def _load_on(self, device: str, name: str, version: int) -> "tuple[Servable, int]":
        """Return the servable on a device, and the bytes that it takes there. Raises NoRoomError."""
        from progan_service.serving.models.warm_up import load_servable

        memory, needed_bytes = self._memories[device], self._needed_bytes(name, version)
        bound = memory.bound
        require_room(needed_bytes, bound)
        memory.mark()
        sizes, precision = self._config.batching.allowed_batch_sizes, self._config.precision
        try:
            servable = load_servable(self._store, name, version, sizes, device, precision, memory.holds)
        except DeviceOutOfMemoryError as error:
            raise NoRoomError(f"it does not fit beside what is loaded: {error}") from error
        taken_bytes = self._needs[servable.metadata.digest] = memory.taken_bytes()
        if not fits(taken_bytes, bound):
            del servable
            gc.collect()
        require_room(taken_bytes, bound)
        return servable, taken_bytes

    def _needed_bytes(self, name: str, version: int) -> int:
        """Return the bytes that a version needs on a device: as measured, or as estimated before its first load."""
        metadata = self._store.metadata(name, version)
        files_bytes = sum(size for _, size, _ in self._store.fingerprint(name, version))
        return self._needs.get(metadata.digest) or estimated_bytes(files_bytes, metadata.resolution)

    def _has_room(self, name: str, version: int) -> bool:
        needed_bytes = self._needed_bytes(name, version)
        return all(fits(needed_bytes, memory.bound) for memory in self._memories.values())

    def _forget(self, name: str, version: int) -> None:
        del self._servables[name, version]
        gc.collect()  # a loaded SavedModel refers to itself

    def _runners(self, name: str, version: int) -> list[Run]:
        """Return a function for each device that runs a batch in its thread."""

        def generate(device: str, inputs: tuple[NDArray[np.float32], ...]) -> Batch:
            started = time.monotonic()
            pixels = self._servables[name, version][device].generate(inputs)
            seconds = time.monotonic() - started
            self._metrics.inference_duration.labels(name, str(version), str(len(pixels))).observe(seconds)
            return Batch(pixels, seconds)

        def runner(thread: DeviceThread, device: str) -> Run:
            return lambda inputs, done: thread.start(partial(generate, device, inputs), done)

        return [runner(thread, device) for thread, device in self._devices.items()]
