"""Which models the server has, in what state, and which one answers a request."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from progan_service.config import ServerConfig
from progan_service.model_store import ModelMetadata, ModelStore, ModelStoreError
from progan_service.serving.batching import Batch, DynamicBatcher
from progan_service.serving.errors import FailedPrecondition, InvalidArgument, ModelNotFound, Unavailable
from progan_service.serving.metrics import Metrics
from progan_service.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from progan_service.serving.servable import Servable

log = logging.getLogger(__name__)


class State(Enum):
    AVAILABLE = "available"  # in the store, not loaded
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass
class VersionStatus:
    """A version as the server sees it; `metadata` is None when it cannot be read, `error` is set when it FAILED."""

    version: int
    state: State = State.AVAILABLE
    metadata: ModelMetadata | None = None
    error: str = ""


@dataclass(frozen=True)
class ReadyModel:
    """A version that answers requests."""

    name: str
    version: int
    metadata: ModelMetadata
    batcher: DynamicBatcher


class ModelCatalog:
    """The models of a store; the newest good version of each is loaded."""

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        """Raises ModelStoreError when the store does not exist or lacks the configured default model."""
        self._config = config
        self._metrics = metrics
        self._store = ModelStore(config.store)
        self._model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._ready: dict[str, ReadyModel] = {}
        self.loading = True
        self.versions = {
            name: [self._status(name, version) for version in self._store.versions(name)]
            for name in self._store.models()
        }
        self.default = config.default_model or (next(iter(self.versions)) if len(self.versions) == 1 else "")
        if config.default_model and config.default_model not in self.versions:
            raise ModelStoreError(f"{config.store}: holds no model {config.default_model!r}; it holds: {self._names()}")

    async def load(self) -> None:
        """Load the newest good version of every model; a bad one is reported and passed over."""
        for name, versions in self.versions.items():
            for status in versions:
                await self._load(name, status)
                if status.state is State.READY:
                    break
        self.loading = False

    def ready_models(self) -> list[ReadyModel]:
        return list(self._ready.values())

    def resolve(self, name: str, version: int) -> ReadyModel:
        """The model for a request; an empty name is the default model, version 0 the latest ready one.

        Raises InvalidArgument, ModelNotFound, FailedPrecondition or Unavailable.
        """
        name = name or self._default_name("model.name")
        known = self.statuses(name)
        model = self._ready.get(name)
        if version and version not in (status.version for status in known):
            raise ModelNotFound(
                f"model {name!r} has no version {version}; it has: {', '.join(str(s.version) for s in known)}"
            )
        if model is None:
            raise Unavailable(f"model {name!r} is {'still loading' if self.loading else 'not ready'}")
        if version and version != model.version:
            raise FailedPrecondition(f"version {version} of model {name!r} is not loaded; {model.version} is")
        return model

    def statuses(self, name: str) -> list[VersionStatus]:
        """The versions of a model, newest first; an empty name is the default model.

        Raises InvalidArgument, ModelNotFound or Unavailable.
        """
        name = name or self._default_name("name")
        if name not in self.versions:
            raise ModelNotFound(f"no model {name!r}; this server has: {self._names()}")
        return self.versions[name]

    def queued_rows(self) -> int:
        return sum(model.batcher.queued_rows for model in self.ready_models())

    def close(self) -> None:
        """Fail what still waits for a model, end the model thread after the batch it is at."""
        for model in self._ready.values():
            model.batcher.close()
        self._model_thread.shutdown(wait=False, cancel_futures=True)

    def _default_name(self, field: str) -> str:
        if not self.default and self.versions:
            raise InvalidArgument(field, f"is empty, and this server has several models: {self._names()}")
        if not self.default:
            raise Unavailable("this server has no model yet: its store is empty")
        return self.default

    def _names(self) -> str:
        return ", ".join(self.versions) or "none"

    def _status(self, name: str, version: int) -> VersionStatus:
        try:
            return VersionStatus(version, metadata=self._store.metadata(name, version))
        except ModelStoreError as error:
            return VersionStatus(version, error=str(error))

    async def _load(self, name: str, status: VersionStatus) -> None:
        status.state = State.LOADING
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            servable = await loop.run_in_executor(self._model_thread, self._make_servable, name, status.version)
        except Exception as error:
            known = isinstance(error, ModelStoreError)
            status.state, status.error = State.FAILED, str(error) if known else "it does not run; see the server's log"
            self._metrics.model_load_failures.labels(name, "invalid" if known else "error").inc()
            log.error("model %s version %d cannot be served: %s", name, status.version, error, exc_info=not known)
            return
        status.state, status.metadata, status.error = State.READY, servable.metadata, ""
        self._ready[name] = self._ready_model(name, status.version, servable)
        self._metrics.model_load_duration.observe(time.monotonic() - started)

    def _make_servable(self, name: str, version: int) -> "Servable":
        # Imported here, in the model thread: TensorFlow takes seconds, and the ports are open before.
        import_tensorflow()
        from progan_service.serving.servable import Servable, use_gpu_memory_as_needed

        use_gpu_memory_as_needed()
        metadata = self._store.verify(name, version)
        path = self._store.path(name, version)
        servable = Servable(path, metadata)
        servable.warm_up(self._config.batching.allowed_batch_sizes)
        servable.check_golden(path)
        return servable

    def _ready_model(self, name: str, version: int, servable: "Servable") -> ReadyModel:
        metadata, loop = servable.metadata, asyncio.get_running_loop()
        self._metrics.model_info.labels(name, str(version), metadata.digest, str(metadata.resolution)).set(1)

        async def run(inputs: tuple[NDArray[np.float32], ...]) -> Batch:
            return await loop.run_in_executor(self._model_thread, timed, inputs)

        def timed(inputs: tuple[NDArray[np.float32], ...]) -> Batch:
            started = time.monotonic()
            pixels = servable.generate(inputs)
            seconds = time.monotonic() - started
            self._metrics.inference_duration.labels(name, str(version), str(len(pixels))).observe(seconds)
            return Batch(pixels, seconds)

        return ReadyModel(name, version, metadata, DynamicBatcher(run, self._config.batching, self._metrics))
