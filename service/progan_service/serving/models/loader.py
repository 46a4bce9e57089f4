"""Versions come into memory and leave it, in threads of their own, while batches run in others."""

import asyncio
import gc
import logging
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from progan_service.host.aside import aside, in_time
from progan_service.host.tensorflow import import_tensorflow
from progan_service.latents.inversion.search import Space
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError, DeviceThreads, Run
from progan_service.serving.config import ServerConfig
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.room import NoRoomError, estimated_bytes, fits, require_room
from progan_service.serving.models.version import Inverting, LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.store import ModelStore

if TYPE_CHECKING:
    from progan_service.serving.models.servable import DeviceMemory, Servable

log = logging.getLogger(__name__)

_MOST_GRADIENTS = 8  # in a batch; more are hardly faster, and images wait for them
_HUGE = 512  # pixels a side; the features of one image, which a gradient keeps, take gigabytes


class Loader:
    """Loads versions from a store, and unloads them.

    Threads: the event loop calls everything that is public. Each version is loaded in a thread of its own. Loads take
    turns, so that each has the machine to itself when it times its batches; but a turn ends after `hang_s`, so that one
    that hangs holds up no others. Batches run in the threads of each device (`_runners`). These threads only look up
    `_servables`: a version stays there from before its first batch until after its last call. `_preparing` is the only
    lock: the devices are made once.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics, store: ModelStore) -> None:
        self._config = config
        self._metrics = metrics
        self._store = store
        self._of_gradients = Metrics()  # nobody reads it: rows of gradients are no images
        self._of_gradients.out_of_memory = metrics.out_of_memory  # but a device that is full is full
        self._turn = asyncio.Lock()
        self._preparing = threading.Lock()
        self._devices: dict[DeviceThreads, str] = {}  # and their names in TensorFlow
        self._memories: dict[str, DeviceMemory] = {}  # by device
        self._needs: dict[str, int] = {}  # the bytes that versions took on a device, by digest
        self._servables: dict[tuple[str, int], dict[str, Servable]] = {}  # by device

    async def load(self, name: str, version: int) -> LoadedVersion:
        """Load a version, verify its files and its golden pictures, and warm it up.

        Raises DamagedVersionError when the files are not the published ones, ModelStoreError when they are and the
        images are wrong, NoRoomError when it does not fit into memory beside what is loaded.
        """
        started = time.monotonic()
        loading = await self._loading(name, version)
        servables = self._servables[name, version] = {device: servable for device, (servable, _) in loading.items()}
        servable, memory_bytes = next(iter(servables.values())), sum(taken for _, taken in loading.values())
        self._metrics.model_load_duration.observe(time.monotonic() - started)
        self._metrics.model_memory.labels(name, str(version)).set(memory_bytes)
        sizes = servable.batch_sizes
        batching = replace(self._config.batching, max_batch_size=sizes[-1], allowed_batch_sizes=sizes)
        in_flight = min(each.in_flight for each in servables.values())
        runners = self._runners(name, version, overlap=in_flight > 1)
        batcher = DynamicBatcher(runners, batching, self._metrics, name, servable.largest_batch(), in_flight)
        loaded = LoadedVersion(
            name,
            version,
            servable.metadata,
            servable.precision,
            memory_bytes,
            batcher,
            Gate(),
            servable.directions,
            self._inverting(name, version, servable, batcher.max_batch_size),
        )
        self._metrics.model_info.labels(*loaded.info).set(1)
        self._metrics.images.labels(name, str(version))
        return loaded

    def _inverting(self, name: str, version: int, servable: "Servable", largest: int) -> Inverting | None:
        """Return what finds latents for a version. A batch of gradients takes half as long as the largest of images."""
        guide, metadata = servable.guide, servable.metadata
        if guide is None:
            return None
        most = 1 if metadata.resolution >= _HUGE else min(largest // 4, _MOST_GRADIENTS)
        sizes = tuple(size for size in servable.batch_sizes if size <= most) or servable.batch_sizes[:1]
        batching = replace(self._config.batching, max_batch_size=sizes[-1], allowed_batch_sizes=sizes)
        batcher = DynamicBatcher(self._runners(name, version, gradients=True), batching, self._of_gradients, name)
        are_classes = metadata.label_kind == "classes"
        space = Space.of(guide, metadata.resolution, metadata.label_count, are_classes=are_classes)
        return Inverting(guide, space, batcher)

    async def has_room(self, name: str, version: int) -> bool:
        """Return whether a version that did not fit into memory would fit now."""
        return await aside(partial(self._has_room, name, version), f"room for {name} {version}")

    async def unload(self, loaded: LoadedVersion) -> None:
        """Free the memory of a version that no call uses any more."""
        loaded.close()
        self._metrics.model_info.remove(*loaded.info)
        self._metrics.model_memory.remove(loaded.name, str(loaded.number))
        for size in self._config.batching.allowed_batch_sizes:
            self._metrics.inference_duration.remove(loaded.name, str(loaded.number), str(size))
        await aside(partial(self._forget, loaded.name, loaded.number), f"unload {loaded.name} {loaded.number}")

    def close(self) -> None:
        """End the threads of the devices after their current work."""
        for threads in self._devices:
            threads.close()

    async def _loading(self, name: str, version: int) -> "dict[str, tuple[Servable, int]]":
        """Load the version in its turn. If nobody waits for it any more, nothing keeps it in memory."""
        async with self._turn:
            loading = aside(partial(self._load, name, version), f"load {name} {version}")
            if not await in_time(loading, self._config.hang_s):
                self._metrics.hangs.labels("load").inc()
                text = "model %s version %d has been loading for more than %g s; other models do not wait for it"
                log.warning(text, name, version, self._config.hang_s)
        return await loading

    def _load(self, name: str, version: int) -> "dict[str, tuple[Servable, int]]":
        """Load the version on all devices. Return by device its servable, and the bytes that it takes."""
        # Imported in this thread: TensorFlow takes seconds to import, and the ports are open before.
        import_tensorflow()
        from progan_service.serving.models.servable import DeviceMemory, prepare_devices

        with self._preparing:
            if not self._devices:
                names = prepare_devices() or [""] * self._config.replicas
                self._memories = {device: DeviceMemory(device) for device in names}
                self._measure_memory()
                self._devices = {
                    DeviceThreads(f"model {number}", 2 if "GPU" in device else 1): device
                    for number, device in enumerate(names)
                }
                gc.freeze()  # later collections skip all that is in memory now, such as TensorFlow
        return {device: self._load_on(device, name, version) for device in self._memories}

    def _measure_memory(self) -> None:
        for device, memory in self._memories.items():
            if device:  # a GPU: on CPUs, models are in the memory of the process
                self._metrics.device_memory.labels(device).set_function(memory.allocated_bytes)
                self._metrics.device_memory_limit.labels(device).set(memory.limit_bytes)

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

    def _runners(self, name: str, version: int, *, gradients: bool = False, overlap: bool = False) -> list[Run]:
        """Return a function for each device that runs a batch in its threads: of images, or of gradients.

        Gradients are computed in the background: images go first. With `overlap` two batches may run at a time.
        """

        def compute(device: str, inputs: tuple[NDArray[Any], ...]) -> Batch:
            servable = self._servables[name, version][device]
            started = time.monotonic()
            pixels = servable.loss_gradient(inputs) if gradients else servable.generate(inputs)
            seconds = time.monotonic() - started
            if not gradients:
                self._metrics.inference_duration.labels(name, str(version), str(len(pixels))).observe(seconds)
            return Batch(pixels, seconds)

        def runner(threads: DeviceThreads, device: str) -> Run:
            return lambda inputs, done: threads.start(
                partial(compute, device, inputs), done, background=gradients, overlaps=overlap
            )

        return [runner(threads, device) for threads, device in self._devices.items()]
