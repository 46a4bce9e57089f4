"""Models and their versions, as the server sees them. Pure: nothing here reads the store or loads."""

from dataclasses import dataclass, field
from enum import Enum

from progan_service.errors import sentence
from progan_service.serving.life import follow
from progan_service.serving.models.room import NoRoomError
from progan_service.serving.models.version import LoadedVersion
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import ModelMetadata
from progan_service.store.rollout import Rollout
from progan_service.store.store import Fingerprint
from progan_service.store.watcher import Found


class State(Enum):
    """Where a version is in its life."""

    AVAILABLE = "available"  # in the store, not loaded
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"  # replaced; finishes its calls


VERSION_LIFE = {
    State.AVAILABLE: {
        State.LOADING,
        State.FAILED,  # its files cannot be read
    },
    State.LOADING: {
        State.READY,
        State.FAILED,
        State.AVAILABLE,  # damaged, perhaps because it is still being copied
    },
    State.READY: {State.DRAINING},
    State.DRAINING: {
        State.READY,  # needed again before its last call ended
        State.AVAILABLE,  # unloaded
    },
    State.FAILED: {
        State.LOADING,  # its files have changed, or there is room for it now
        State.FAILED,  # its files still cannot be read
    },
}


_HELD = {State.LOADING, State.READY, State.DRAINING}  # a version in this state is known, even if it is gone


@dataclass
class VersionStatus:
    """A version as the server sees it.

    metadata      None when it cannot be read
    error         what is wrong with it
    in_store      False for a loaded version that is gone from the store
    tried         the fingerprint of the files that were tried last
    lacks_room    whether it failed because it did not fit into memory
    memory_bytes  what it takes while it is in memory
    """

    number: int
    metadata: ModelMetadata | None = None
    error: str = ""
    in_store: bool = True
    tried: Fingerprint | None = None
    lacks_room: bool = False
    memory_bytes: int = 0
    _state: State = State.AVAILABLE

    @property
    def state(self) -> State:
        return self._state

    def move_to(self, state: State) -> None:
        """Raise ImpossibleTransitionError for a step that VERSION_LIFE does not have."""
        self._state = follow(VERSION_LIFE, self._state, state)

    def fail(self, error: BaseException) -> None:
        self.move_to(State.FAILED)
        self.error = sentence(error)
        self.lacks_room = isinstance(error, NoRoomError)


@dataclass
class Model:
    """A model: its versions, newest first, and which of them answer.

    error       why the model or its rollout cannot be read from the store (the last good one holds), or followed
    serving     the version for requests that name none
    labelled    label -> version
    loaded      the versions that take requests, by number
    draining    the versions that were replaced and still have calls, by number

    Threads: changed in the event loop only. Another thread may read a copy (`in_memory`).
    """

    name: str
    versions: list[VersionStatus] = field(default_factory=list)
    rollout: Rollout = field(default_factory=Rollout)
    error: str = ""
    serving: LoadedVersion | None = None
    labelled: dict[str, LoadedVersion] = field(default_factory=dict)
    loaded: dict[int, LoadedVersion] = field(default_factory=dict)
    draining: dict[int, LoadedVersion] = field(default_factory=dict)

    @property
    def in_memory(self) -> list[LoadedVersion]:
        """Return the versions in memory. May be called from any thread: each dictionary is copied in one step."""
        return [*self.loaded.values(), *self.draining.values()]

    def status(self, version: int) -> VersionStatus | None:
        return next((status for status in self.versions if status.number == version), None)

    def begin(self, loaded: LoadedVersion) -> None:
        """Let a version that was loaded take calls."""
        status = self._known(loaded.number)
        status.move_to(State.READY)
        status.metadata, status.error, status.memory_bytes = loaded.metadata, "", loaded.memory_bytes
        self.loaded[loaded.number] = loaded

    def retire(self, loaded: LoadedVersion) -> None:
        """Give a version no new calls."""
        self._known(loaded.number).move_to(State.DRAINING)
        self.draining[loaded.number] = self.loaded.pop(loaded.number)

    def bring_back(self, version: int) -> LoadedVersion:
        """Let a version that drains take calls again."""
        self._known(version).move_to(State.READY)
        loaded = self.loaded[version] = self.draining.pop(version)
        return loaded

    def forget(self, loaded: LoadedVersion) -> None:
        """Let go of a version that has drained."""
        status = self._known(loaded.number)
        status.move_to(State.AVAILABLE)
        status.memory_bytes = 0
        del self.draining[loaded.number]

    def _known(self, version: int) -> VersionStatus:
        status = self.status(version)
        assert status, f"version {version} is not known"
        return status

    def update(self, found: Found | ModelStoreError) -> None:
        """Bring the versions and the rollout in line with the store. Where that could not be read, all stays as it is.

        Versions that are in memory, or come into it, stay known if they are gone.
        """
        if isinstance(found, ModelStoreError):
            self.error = sentence(found)
            return
        known = {status.number: status for status in self.versions}
        held = {number for number, status in known.items() if status.state in _HELD}
        for version in sorted(found.versions.keys() | (known.keys() & held), reverse=True):
            status = known.setdefault(version, VersionStatus(version))
            read = found.versions.get(version)
            status.in_store = read is not None
            if status.state in (State.AVAILABLE, State.FAILED) and read is not None:
                status.metadata = read if isinstance(read, ModelMetadata) else None
            if status.state is State.AVAILABLE:
                status.error = sentence(read) if isinstance(read, ModelStoreError) else ""
        self.versions = [known[v] for v in sorted(found.versions.keys() | held, reverse=True)]
        if isinstance(found.rollout, Rollout):
            self.rollout = found.rollout
            self.error = self.rollout.problem([status.number for status in self.versions])
        else:
            self.error = sentence(found.rollout)
        if found.stale:
            self.error = sentence(found.stale)

    def candidates(self) -> list[int]:
        """Return the versions that may answer requests without a version, best first: newest first, gone ones last."""
        if self.rollout.pinned:
            return [self.rollout.pinned]
        return [status.number for status in sorted(self.versions, key=lambda status: not status.in_store)]
