"""Versions come into memory and leave it, aside of the batches: in a thread of their own."""

import asyncio
import gc
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from progan_service.host.tensorflow import import_tensorflow
from progan_service.serving.batching.batcher import Batch, DynamicBatcher, Run
from progan_service.serving.batching.device import DeviceThread
from progan_service.serving.config import ServerConfig
from progan_service.serving.models.gate import Gate
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.errors import DamagedVersionError, ModelStoreError
from progan_service.store.metadata import ModelMetadata
from progan_service.store.mirror import Mirror
from progan_service.store.rollout import Rollout
from progan_service.store.store import Fingerprint, ModelStore

if TYPE_CHECKING:
    from progan_service.serving.models.servable import Servable
from progan_service.serving.models.version import LoadedVersion

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A model as it is in the store: its versions, newest first, with their metadata or what is wrong with them."""

    versions: dict[int, ModelMetadata | ModelStoreError]
    rollout: Rollout | ModelStoreError


class Loader:
    """Reads the store and makes LoadedVersions. Batches run in a thread a device, everything else here in another.

    Of a store behind a URL it reads a copy. `reachable` tells whether the last `sync` brought that up to date; until
    then, what has been copied before is what there is.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        """Raises ModelStoreError when the store does not exist or its cache cannot be used."""
        self._config = config
        self._metrics = metrics
        self._mirror = Mirror(config.store, config.cache or self._private()) if isinstance(config.store, str) else None
        self._store = self._mirror.store if self._mirror else ModelStore(Path(config.store))
        self.reachable = self._mirror is None
        self._devices: dict[DeviceThread, str] = {}  # and what TensorFlow calls them
        self._loader_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._servables: dict[tuple[str, int], dict[str, Servable]] = {}  # by device

    async def sync(self) -> None:
        """Bring a copied store up to date, but for the files of versions. Raises OSError when that fails."""
        if self._mirror:
            self.reachable = False
            await self._in_thread(self._mirror.sync)
            self.reachable = True

    async def read_store(self) -> dict[str, Found]:
        """What is in the store now. Raises OSError when it cannot be read."""
        return await self._in_thread(lambda: {name: self._found(name) for name in self._store.models()})

    async def fingerprint(self, name: str, version: int) -> Fingerprint:
        """Of the files of a version, copied first if need be. Raises OSError when they cannot be had."""
        return await self._in_thread(lambda: self._fingerprint(name, version))

    async def load(self, name: str, version: int) -> LoadedVersion:
        """A version that has proved its files and its golden pictures, warmed up.

        Raises DamagedVersionError when the files are not what was published, ModelStoreError when they are and do not
        show what they should.
        """
        started = time.monotonic()
        servable = await self._in_thread(lambda: self._load(name, version))
        self._metrics.model_load_duration.observe(time.monotonic() - started)
        sizes = servable.batch_sizes
        batching = replace(self._config.batching, max_batch_size=sizes[-1], allowed_batch_sizes=sizes)
        batcher = DynamicBatcher(self._runners(name, version), batching, self._metrics)
        loaded = LoadedVersion(name, version, servable.metadata, servable.precision, batcher, Gate())
        self._metrics.model_info.labels(*loaded.info).set(1)
        return loaded

    async def unload(self, model: LoadedVersion) -> None:
        """Give back the memory of a version that no request is using."""
        model.batcher.close()
        self._metrics.model_info.remove(*model.info)
        for size in self._config.batching.allowed_batch_sizes:
            self._metrics.inference_duration.remove(model.name, str(model.version), str(size))
        await self._in_thread(lambda: self._forget(model.name, model.version))

    def close(self) -> None:
        """End the threads after what they are at."""
        if self._mirror:
            self._mirror.close()
        for thread in self._devices:
            thread.close()
        self._loader_thread.shutdown(wait=False, cancel_futures=True)

    def _private(self) -> Path:
        """A directory that goes with the loader, or with the process."""
        directory = Path(tempfile.mkdtemp(prefix="progan-"))
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        return directory

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loader_thread, work)

    def _fingerprint(self, name: str, version: int) -> Fingerprint:
        if self._mirror and self.reachable:
            self._mirror.fetch(name, version)
        return self._store.fingerprint(name, version)

    def _found(self, name: str) -> Found:
        versions = {version: self._metadata(name, version) for version in self._store.versions(name)}
        try:
            return Found(versions, self._store.rollout(name))
        except ModelStoreError as error:
            return Found(versions, error)

    def _metadata(self, name: str, version: int) -> ModelMetadata | ModelStoreError:
        try:
            return self._store.metadata(name, version)
        except DamagedVersionError as error:
            return error

    def _load(self, name: str, version: int) -> "Servable":
        """On all devices; the one of the first."""
        # Imported here, in a thread: TensorFlow takes seconds, and the ports are open before.
        import_tensorflow()
        from progan_service.serving.models.servable import load_servable, prepare_devices

        if not self._devices:
            names = prepare_devices() or [""] * self._config.replicas
            self._devices = {DeviceThread(f"model {number}"): device for number, device in enumerate(names)}
            gc.freeze()  # what is there now stays: later collections need not look at all of TensorFlow
        sizes, precision = self._config.batching.allowed_batch_sizes, self._config.precision
        servables = {
            device: load_servable(self._store, name, version, sizes, device, precision)
            for device in dict.fromkeys(self._devices.values())
        }
        self._servables[name, version] = servables
        return next(iter(servables.values()))

    def _forget(self, name: str, version: int) -> None:
        del self._servables[name, version]
        gc.collect()  # a loaded SavedModel refers to itself

    def _runners(self, name: str, version: int) -> list[Run]:
        """One for each device."""

        def generate(device: str, inputs: tuple[NDArray[np.float32], ...]) -> Batch:
            started = time.monotonic()
            pixels = self._servables[name, version][device].generate(inputs)
            seconds = time.monotonic() - started
            self._metrics.inference_duration.labels(name, str(version), str(len(pixels))).observe(seconds)
            return Batch(pixels, seconds)

        def runner(thread: DeviceThread, device: str) -> Run:
            return lambda inputs, done: thread.start(partial(generate, device, inputs), done)

        return [runner(thread, device) for thread, device in self._devices.items()]
