"""Which models the server has, in what state, and which version answers a request.

The store is looked at again and again. What is new is verified and warmed up aside; then it takes over at once: calls
that have begun end with the version they began with, and that one is unloaded after the last of them. What serves goes
on until something better is ready, whatever happens in the store.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from progan_service.serving.batching.queue import Priority
from progan_service.serving.config import ServerConfig
from progan_service.serving.errors import FailedPrecondition, InvalidArgument, ModelNotFound, Unavailable
from progan_service.serving.models.loader import Found, Loader
from progan_service.serving.models.model import Model, State, VersionStatus
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.errors import DamagedVersionError, ModelStoreError

log = logging.getLogger(__name__)


class ModelCatalog:
    """The models of a store; of each, the version that answers, and the labelled ones, are loaded."""

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        """Raises ModelStoreError when the store does not exist."""
        self._metrics = metrics
        self._loader = Loader(config, metrics)
        self._hang_s = config.hang_s
        self._store_was_read = False
        self._first_round = True
        self._drains: dict[LoadedVersion, asyncio.Task[None]] = {}
        self.models: dict[str, Model] = {}
        self.default = config.default_model
        self._configured = bool(config.default_model)
        self._warned = False  # about the default

    async def read_store(self) -> None:
        """Take note of what is in the store. Raises OSError when it cannot be read."""
        found = await self._loader.read_store()
        for name in sorted(found.keys() | self.models.keys()):
            model = self.models.setdefault(name, Model(name))
            reported = model.error
            model.update(found.get(name, Found({}, model.rollout)))
            if model.error not in ("", reported):
                self._metrics.model_load_failures.labels(name, "rollout").inc()
                log.error("model %s: %s; what serves goes on", name, model.error)
            if not model.versions:
                del self.models[name]
        self._choose_default()
        self._store_was_read = self._store_was_read or bool(self.models) or self._loader.reachable

    def _choose_default(self) -> None:
        """The configured one, or the first that was there alone; what clients rely on does not change any more."""
        if not self.default and len(self.models) == 1:
            self.default = next(iter(self.models))
        alone = not self._configured and self.default and len(self.models) > 1
        missing = self._configured and self.default not in self.models
        if (alone or missing) and not self._warned:
            self._warned = True
            if missing:
                log.warning("the default model %s is not in the store yet; it holds: %s", self.default, self._names())
            else:
                text = "model %s stays the default until the next start, which needs --model: there are several now: %s"
                log.warning(text, self.default, self._names())

    async def refresh(self) -> None:
        """Look at the store, and bring what serves in line with it; what is bad there is reported and passed over.

        Raises OSError when the store cannot be read; what has been copied of a store behind a URL serves all the same.
        """
        unreachable: OSError | None = None
        try:
            await self._loader.sync()
        except OSError as error:
            unreachable = error
        await self.read_store()
        for model in list(self.models.values()):
            await self._bring_up(model)
        self._first_round = False
        if unreachable:
            raise unreachable

    def serving_versions(self) -> list[LoadedVersion]:
        """The version of each model that answers requests which name none."""
        return [model.serving for model in self.models.values() if model.serving]

    def hanging(self) -> set[str]:
        """The models of which a batch has been running for longer than hang_s."""
        models = self.models.values()
        return {model.name for model in models if any(r.batcher.busy_s() > self._hang_s for r in model.loaded.values())}

    @contextmanager
    def use(self, name: str, version: int = 0, label: str = "") -> Iterator[LoadedVersion]:
        """The version for a request, which stays loaded within the block.

        An empty name is the default model; without version and label it is the one that serves.
        Raises InvalidArgument, ModelNotFound, FailedPrecondition or Unavailable.
        """
        loaded = self._resolve(name, version, label)
        with loaded.gate.enter():
            yield loaded

    def model(self, name: str) -> Model:
        """An empty name is the default model. Raises InvalidArgument, ModelNotFound or Unavailable."""
        if not self._store_was_read:
            raise Unavailable("the server has not read its store yet")
        name = name or self._default_name()
        if name not in self.models:
            if name == self.default:
                raise Unavailable(f"model {name!r}, the default, is not in the store yet; it holds: {self._names()}")
            raise ModelNotFound(f"no model {name!r}; this server has: {self._names()}")
        return self.models[name]

    def queued_rows(self, priority: Priority) -> int:
        return sum(loaded.batcher.queued_rows(priority) for loaded in self._in_memory())

    def close(self) -> None:
        """Fail what still waits for a model, end the threads after what they are at."""
        for loaded in self._in_memory():
            loaded.batcher.close()
        for drain in self._drains.values():
            drain.cancel()
        self._loader.close()

    def _resolve(self, name: str, version: int, label: str) -> LoadedVersion:
        if version and label:
            raise InvalidArgument("label", f"is {label!r}, and version is {version}: give one of them")
        model = self.model(name)
        if label:
            return self._labelled(model, label)
        if version:
            return self._numbered(model, version)
        if model.serving is None:
            why = f": {model.error}" if model.error else ""
            raise Unavailable(f"model {model.name!r} is {'still loading' if self._first_round else f'not ready{why}'}")
        return model.serving

    def _numbered(self, model: Model, version: int) -> LoadedVersion:
        if version in model.loaded:
            return model.loaded[version]
        status = model.status(version)
        if status is None:
            known = ", ".join(str(status.version) for status in model.versions)
            raise ModelNotFound(f"model {model.name!r} has no version {version}; it has: {known}")
        if self._first_round:
            raise Unavailable(f"model {model.name!r} is still loading")
        if status.state is State.FAILED:
            raise FailedPrecondition(f"version {version} of model {model.name!r} cannot be served: {status.error}")
        loaded = " and ".join(map(str, sorted(model.loaded))) or "none"
        raise FailedPrecondition(
            f"version {version} of model {model.name!r} is not loaded (a label would load it); loaded: {loaded}"
        )

    def _labelled(self, model: Model, label: str) -> LoadedVersion:
        if label in model.labelled:
            return model.labelled[label]
        if label not in model.rollout.labels:
            known = ", ".join(sorted(model.rollout.labels)) or "none"
            raise ModelNotFound(f"model {model.name!r} has no version label {label!r}; it has: {known}")
        version = model.rollout.labels[label]
        raise Unavailable(f"version {version} of model {model.name!r}, labelled {label!r}, is not ready")

    def _default_name(self) -> str:
        if not self.default and self.models:
            raise InvalidArgument("model", f"is empty, and this server has several models: {self._names()}")
        if not self.default:
            raise Unavailable("this server has no model yet: its store is empty")
        return self.default

    def _names(self) -> str:
        return ", ".join(self.models) or "none"

    def _in_memory(self) -> list[LoadedVersion]:
        return [
            loaded for model in self.models.values() for loaded in (*model.loaded.values(), *model.draining.values())
        ]

    async def _bring_up(self, model: Model) -> None:
        best = await self._first_good(model, model.candidates())
        if best and best is not model.serving:
            if model.serving:
                log.info("model %s: version %d takes over from %d", model.name, best.version, model.serving.version)
            model.serving = best
        labels = model.rollout.labels
        for label, version in labels.items():
            if loaded := await self._first_good(model, [version]):
                if model.labelled.get(label) is not loaded:
                    log.info("model %s: label %s is version %d", model.name, label, version)
                model.labelled[label] = loaded
        model.labelled = {label: loaded for label, loaded in model.labelled.items() if label in labels}
        for loaded in set(model.loaded.values()) - {model.serving, *model.labelled.values()}:
            self._retire(model, loaded)

    def _retire(self, model: Model, loaded: LoadedVersion) -> None:
        model.draining[loaded.version] = model.loaded.pop(loaded.version)
        self._set_state(model, loaded.version, State.DRAINING)

        async def drain() -> None:
            await loaded.gate.emptied()
            del model.draining[loaded.version], self._drains[loaded]
            self._set_state(model, loaded.version, State.AVAILABLE)
            await self._loader.unload(loaded)
            log.info("model %s: version %d is unloaded", model.name, loaded.version)

        self._drains[loaded] = asyncio.create_task(drain(), name=f"drain {model.name} {loaded.version}")

    def _bring_back(self, model: Model, version: int) -> None:
        loaded = model.loaded[version] = model.draining.pop(version)
        self._drains.pop(loaded).cancel()
        self._set_state(model, version, State.READY)

    @staticmethod
    def _set_state(model: Model, version: int, state: State) -> None:
        if status := model.status(version):
            status.state = state

    async def _first_good(self, model: Model, versions: list[int]) -> LoadedVersion | None:
        for version in versions:
            if version in model.draining:
                self._bring_back(model, version)
            if version in model.loaded:
                return model.loaded[version]
            status = model.status(version)
            if status and (loaded := await self._try(model, status)):
                return loaded
        return None

    async def _try(self, model: Model, status: VersionStatus) -> LoadedVersion | None:
        """Load a version. Files that were no good are not tried again until they change, those that cannot be had are.

        Damage in what has just appeared may be a copy in progress; it is reported once the files have come to rest.
        """
        try:
            files = await self._loader.fingerprint(model.name, status.version)
        except OSError as error:
            reported, status.error = status.error, str(error)
            status.state, status.tried = State.FAILED, None
            if status.error != reported:
                self._count_failure(model, status, error, "unreadable")
            return None
        if status.state is State.FAILED and status.tried == files:
            return None
        at_rest = self._first_round or status.tried == files
        status.tried, status.state = files, State.LOADING
        try:
            loaded = await self._loader.load(model.name, status.version)
        except DamagedVersionError as error:
            status.state, status.error = (State.FAILED if at_rest else State.AVAILABLE), str(error)
            if at_rest:
                self._count_failure(model, status, error, "invalid")
            return None
        except Exception as error:
            known = isinstance(error, ModelStoreError)
            status.state, status.error = State.FAILED, str(error) if known else "it does not run; see the server's log"
            self._count_failure(model, status, error, "invalid" if known else "error")
            return None
        status.state, status.metadata, status.error = State.READY, loaded.metadata, ""
        model.loaded[status.version] = loaded
        return loaded

    def _count_failure(self, model: Model, status: VersionStatus, error: Exception, reason: str) -> None:
        self._metrics.model_load_failures.labels(model.name, reason).inc()
        goes_on = f"; version {model.serving.version} goes on" if model.serving else ""
        text = "model %s version %d cannot be served: %s%s; tried again when its files change"
        log.error(text, model.name, status.version, error, goes_on, exc_info=error if reason == "error" else None)
