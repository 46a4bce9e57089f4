"""TODO"""

from dataclasses import dataclass, field
from enum import Enum

from progan_service.serving.models.loader import Found
from progan_service.serving.models.version import LoadedVersion
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import ModelMetadata
from progan_service.store.rollout import Rollout
from progan_service.store.store import Fingerprint


class State(Enum):
    AVAILABLE = "available"  # in the store, not loaded
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"  # replaced; ends what it has begun


@dataclass
class VersionStatus:
    """A version as the server sees it.

    metadata   None when it cannot be read
    error      what is wrong with it
    in_store   False for one that is loaded and gone from the store
    tried      the files that were last tried
    """

    version: int
    state: State = State.AVAILABLE
    metadata: ModelMetadata | None = None
    error: str = ""
    in_store: bool = True
    tried: Fingerprint | None = None


@dataclass
class Model:
    """A model: its versions, newest first, and which of them answer.

    error       why the rollout in the store cannot be read (`rollout` is the last good one) or followed
    serving     the version for requests that name none
    labelled    label -> version
    loaded      all that take requests, by number
    draining    those that were replaced and still have requests, by number
    """

    name: str
    versions: list[VersionStatus] = field(default_factory=list)
    rollout: Rollout = field(default_factory=Rollout)
    error: str = ""
    serving: LoadedVersion | None = None
    labelled: dict[str, LoadedVersion] = field(default_factory=dict)
    loaded: dict[int, LoadedVersion] = field(default_factory=dict)
    draining: dict[int, LoadedVersion] = field(default_factory=dict)

    def status(self, version: int) -> VersionStatus | None:
        return next((status for status in self.versions if status.version == version), None)

    def update(self, found: Found) -> None:
        """Take note of what is in the store; what is loaded and gone there stays known."""
        known = {status.version: status for status in self.versions}
        held = self.loaded.keys() | self.draining.keys()
        for version in sorted(found.versions.keys() | (known.keys() & held), reverse=True):
            status = known.setdefault(version, VersionStatus(version))
            read = found.versions.get(version)
            status.in_store = read is not None
            if status.state in (State.AVAILABLE, State.FAILED) and read is not None:
                status.metadata = read if isinstance(read, ModelMetadata) else None
            if status.state is State.AVAILABLE:
                status.error = str(read) if isinstance(read, ModelStoreError) else ""
        self.versions = [known[v] for v in sorted(found.versions.keys() | held, reverse=True)]
        if isinstance(found.rollout, Rollout):
            self.rollout = found.rollout
            self.error = self.rollout.problem([status.version for status in self.versions])
        else:
            self.error = str(found.rollout)

    def candidates(self) -> list[int]:
        """The versions that may answer requests which name none, best first: the newest, then what is loaded only."""
        if self.rollout.pinned:
            return [self.rollout.pinned]
        return [status.version for status in sorted(self.versions, key=lambda status: not status.in_store)]
