"""Which models the server has, in what state, and which version answers a request.

The store is polled. A new version is verified and warmed up in the background, and then takes over at once. Calls that
have begun end with the version that they began with; it is unloaded after the last of them. A version serves until a
better one is ready, whatever happens in the store.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from progan_service.errors import sentence
from progan_service.serving.config import ServerConfig
from progan_service.serving.errors import FailedPrecondition, InvalidArgument, ModelNotFound, Unavailable
from progan_service.serving.models.bring_up import BringUps
from progan_service.serving.models.default import DefaultModel
from progan_service.serving.models.loader import Loader
from progan_service.serving.models.looks import Looks
from progan_service.serving.models.measured import measure
from progan_service.serving.models.model import Model, State, VersionStatus
from progan_service.serving.models.room import NoRoomError
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.rights import ALL_RIGHTS, Rights
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.default import listed
from progan_service.store.errors import DamagedVersionError, ModelStoreError, NoAnswerError
from progan_service.store.watcher import Found

log = logging.getLogger(__name__)


class ModelCatalog:
    """The models of a store. Of each model the serving version and the labelled ones are loaded.

    Threads: used in one event loop only, without a lock, but for `widest_row_bytes`, which any thread may call.
    Only one `refresh` runs at a time. A task for each model brings up its versions; while it waits for the loader,
    looks at the store, calls and drains go on: state that belongs together changes without an `await` between.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        """Raises ModelStoreError when the store does not exist."""
        self._metrics = metrics
        self._looks = Looks(config, metrics)
        self._loader = Loader(config, metrics, self._looks.store)
        self._store_was_read = False
        self._refreshed = False  # whether the first refresh has read the store
        self._first: set[str] = set()  # the models that it brings up
        self._bring_ups = BringUps(self._bring_up_or_report, config.hang_s)
        self._drains: dict[LoadedVersion, asyncio.Task[None]] = {}
        self.models: dict[str, Model] = {}
        self._default = DefaultModel(config.model)
        self._reported: dict[str, str] = {}  # what was wrong with models as a whole, at the last poll

    async def look(self) -> None:
        """Bring the list of models in line with the store; load nothing.

        Raises OSError when the store cannot be listed. Of one behind a URL the copy is read all the same.
        """
        await self._look(lambda model: None)

    async def _look(self, then: Callable[[Model], None]) -> None:
        """Read all models, several at a time, and call `then` for each that the server knows."""
        unreachable, remote = None, set[str]()
        try:
            remote = await self._looks.remote_names()
        except Exception as error:
            unreachable = error
        names = remote | await self._looks.names()

        async def look_at(name: str) -> bool:
            found = await self._looks.look(name) if name in names else Found({}, self.models[name].rollout)
            self._update(name, found)
            if name in self.models:
                then(self.models[name])
            return not isinstance(found, NoAnswerError)

        self._default.follow(await self._looks.default())
        answered = await asyncio.gather(*map(look_at, sorted(names | self.models.keys())))
        if all(answered):
            self._default.choose(self.models)
        self._store_was_read = self._store_was_read or bool(self.models) or self._looks.reachable
        if unreachable:
            raise unreachable

    def _update(self, name: str, found: Found | ModelStoreError) -> None:
        model = self.models.setdefault(name, Model(name))
        measure(model, self._metrics)
        model.update(found)
        self._report_model(model, "unreadable" if isinstance(found, ModelStoreError) else "rollout")
        if not model.versions:
            del self.models[name]

    def _report_model(self, model: Model, reason: str) -> None:
        """Log and count what is wrong with a model as a whole: once, until it changes."""
        if model.error and model.error != self._reported.get(model.name):
            self._metrics.model_load_failures.labels(model.name, reason).inc()
            log.error("model %s: %s; the loaded versions stay in use", model.name, model.error)
        self._reported[model.name] = model.error

    async def refresh(self, patience_s: float | None = None) -> None:
        """Poll the store, and bring the loaded versions in line with it. Bad versions are reported and skipped.

        patience_s   how long to wait for versions that are loaded; None: to the end. They go on being loaded
        Raises OSError when the store cannot be read. The copy of a store behind a URL serves all the same.
        """
        problem: Exception | None = None
        try:
            await self._look(self._begin_to_bring_up)
        except Exception as error:
            problem = error
        self._refreshed = True
        await self._bring_ups.wait(patience_s)
        if problem:
            raise problem

    def _begin_to_bring_up(self, model: Model) -> None:
        if not self._refreshed:
            self._first.add(model.name)
        self._bring_ups.begin(model)

    @property
    def default(self) -> str:
        """Return the model for requests that name none; empty until it is known."""
        return self._default.name

    @property
    def default_is_coming(self) -> bool:
        """Whether the default model was there from the start, and nobody knows yet whether it can serve."""
        return self.default in self.models and self._is_first(self.models[self.default])

    @property
    def loading(self) -> bool:
        """Whether versions are being loaded, or it is being found out whether they can be."""
        return bool(self._bring_ups)

    def serving_versions(self) -> list[LoadedVersion]:
        """Return the version of each model that answers requests without a version."""
        return [model.serving for model in self.models.values() if model.serving]

    def widest_row_bytes(self) -> int:
        """Return the size of the largest row of latent and labels of a version in memory; 0 when there is none."""
        return max((loaded.row_bytes for loaded in self._in_memory()), default=0)

    def busy_s(self) -> dict[str, float]:
        """Return, by model, how long its oldest batch that still runs has been running, in seconds; 0 without one."""
        return {
            model.name: max((version.batcher.busy_s() for version in model.loaded.values()), default=0.0)
            for model in self.models.values()
        }

    @contextmanager
    def use(
        self, name: str, version: int = 0, label: str = "", rights: Rights = ALL_RIGHTS, caller: str = ""
    ) -> Iterator[LoadedVersion]:
        """Keep the version for a request loaded within the block.

        An empty name is the default model. Without version and label it is the serving version, or the labelled one
        whose share of the callers this one belongs to; an empty caller belongs to none.
        Raises InvalidArgument, ModelNotFound, FailedPrecondition or Unavailable.
        """
        loaded = self._resolve(name, version, label, rights, caller)
        with loaded.gate.enter():
            yield loaded

    def model(self, name: str, rights: Rights = ALL_RIGHTS) -> Model:
        """Return a model by its name; empty: the default model. Errors name models that these rights allow, no others.

        Raises InvalidArgument, ModelNotFound or Unavailable.
        """
        if not self._store_was_read:
            raise Unavailable("the server has not read its store yet")
        visible = [model for model in self.models if rights.may_use(model)]
        name = name or self._default.required(visible)
        if name not in self.models:
            known = listed(visible)
            if name == self.default:
                raise Unavailable(f"model {name!r}, the default, is not in the store yet; it holds: {known}")
            raise ModelNotFound(f"no model {name!r}; this server has: {known}")
        return self.models[name]

    def close(self) -> None:
        """Fail the requests that wait, and end the threads after their current work."""
        for loaded in self._in_memory():
            loaded.close()
        for drain in self._drains.values():
            drain.cancel()
        self._bring_ups.close()
        self._loader.close()
        self._looks.close()

    def _resolve(self, name: str, version: int, label: str, rights: Rights, caller: str) -> LoadedVersion:
        if version and label:
            raise InvalidArgument("label", f"is {label!r}, and version is {version}: give one of them")
        model = self.model(name, rights)
        if label:
            return self._labelled(model, label)
        if version:
            return self._numbered(model, version)
        if shared := caller and model.labelled.get(model.rollout.label_for(caller)):
            return shared
        if model.serving is None:
            why = f": {model.error}" if model.error else ""
            raise Unavailable(
                f"model {model.name!r} is {'still loading' if self._is_first(model) else f'not ready{why}'}"
            )
        return model.serving

    def _numbered(self, model: Model, version: int) -> LoadedVersion:
        if version in model.loaded:
            return model.loaded[version]
        status = model.status(version)
        if status is None:
            known = ", ".join(str(status.number) for status in model.versions)
            raise ModelNotFound(f"model {model.name!r} has no version {version}; it has: {known}")
        if self._is_first(model):
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

    def _is_first(self, model: Model) -> bool:
        """Tell whether the model was there from the start, and nobody knows yet which of its versions can serve."""
        return not self._refreshed or model.name in self._first

    def _in_memory(self) -> list[LoadedVersion]:
        return [loaded for model in list(self.models.values()) for loaded in model.in_memory]

    async def _bring_up_or_report(self, model: Model) -> None:
        """Bring up a model. A fault that nobody thought of must not keep the other models from their updates."""
        try:
            await self._bring_up(model)
        except Exception as error:
            log.error("model %s: its versions could not be brought up", model.name, exc_info=error)
        finally:
            self._first.discard(model.name)

    async def _bring_up(self, model: Model) -> None:
        """Load the versions that the rollout asks for, and retire the others."""
        best = await self._first_good(model, model.candidates())
        if best and best is not model.serving and best.number in model.candidates():  # it was pinned away meanwhile
            if model.serving:
                log.info("model %s: version %d takes over from %d", model.name, best.number, model.serving.number)
            model.serving = best
        await self._bring_up_labels(model)
        for loaded in set(model.loaded.values()) - {model.serving, *model.labelled.values()}:
            self._retire(model, loaded)

    async def _bring_up_labels(self, model: Model) -> None:
        """Point each label at its version, once that is loaded."""
        labels = model.rollout.labels
        for label, version in labels.items():
            if loaded := await self._first_good(model, [version]):
                if model.labelled.get(label) is not loaded:
                    log.info("model %s: label %s is version %d", model.name, label, version)
                model.labelled[label] = loaded
        model.labelled = {label: loaded for label, loaded in model.labelled.items() if label in labels}

    def _retire(self, model: Model, loaded: LoadedVersion) -> None:
        """Give the version no new calls, and unload it after the last one."""
        model.retire(loaded)

        async def drain() -> None:
            await loaded.gate.emptied()
            model.forget(loaded)
            del self._drains[loaded]
            await self._loader.unload(loaded)
            log.info("model %s: version %d is unloaded", model.name, loaded.number)

        self._drains[loaded] = asyncio.create_task(drain(), name=f"drain {model.name} {loaded.number}")

    async def _first_good(self, model: Model, versions: list[int]) -> LoadedVersion | None:
        """Return the first of these versions that is loaded or can be loaded."""
        for version in versions:
            if version in model.draining:
                self._drains.pop(model.bring_back(version)).cancel()
            if version in model.loaded:
                return model.loaded[version]
            status = model.status(version)
            if status and (loaded := await self._try(model, status)):
                return loaded
        return None

    async def _try(self, model: Model, status: VersionStatus) -> LoadedVersion | None:
        """Load a version, unless the same files have failed before. Files that cannot be read are tried every time.

        A new version that is damaged may be a copy in progress. It is reported once its files have stopped changing.
        """
        try:
            files = await self._looks.fingerprint(model.name, status.number)
        except Exception as error:
            self._note_unreadable(model, status, error)
            return None
        if model.status(status.number) is not status:
            return None  # gone meanwhile
        if status.state is State.FAILED and status.tried == files and not await self._has_room_now(model, status):
            return None
        at_rest = self._is_first(model) or status.tried == files
        status.tried = files
        status.move_to(State.LOADING)
        try:
            loaded = await self._loader.load(model.name, status.number)
        except asyncio.CancelledError:
            status.move_to(State.AVAILABLE)
            raise
        except Exception as error:
            self._note_bad(model, status, error, at_rest)
            return None
        model.begin(loaded)
        return loaded

    async def _has_room_now(self, model: Model, status: VersionStatus) -> bool:
        """Return whether a version failed because it did not fit into memory, and would fit now."""
        return status.lacks_room and await self._loader.has_room(model.name, status.number)

    def _note_unreadable(self, model: Model, status: VersionStatus, error: Exception) -> None:
        reported, status.tried = status.error, None
        status.fail(error)
        if status.error != reported:
            known = isinstance(error, OSError | ModelStoreError)
            self._report_failure(model, status, error, "unreadable" if known else "error")

    def _note_bad(self, model: Model, status: VersionStatus, error: Exception, at_rest: bool) -> None:
        if isinstance(error, DamagedVersionError) and not at_rest:
            status.move_to(State.AVAILABLE)
            status.error = sentence(error)
            return
        known = isinstance(error, ModelStoreError)
        status.fail(error if known else ModelStoreError("it does not run; see the server's log"))
        reason = "memory" if isinstance(error, NoRoomError) else "invalid" if known else "error"
        self._report_failure(model, status, error, reason)

    def _report_failure(self, model: Model, status: VersionStatus, error: Exception, reason: str) -> None:
        self._metrics.model_load_failures.labels(model.name, reason).inc()
        meanwhile = f"; version {model.serving.number} stays in use" if model.serving else ""
        retry = "there is room" if status.lacks_room else "its files change"
        words = model.name, status.number, f"{sentence(error)}{meanwhile}; it is tried again when {retry}"
        log.error("model %s version %d cannot be served: %s", *words, exc_info=error if reason == "error" else None)
