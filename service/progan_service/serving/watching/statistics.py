"""What each version has done since the server started, for protocols that ask for it in numbers."""

import time
from dataclasses import dataclass, field

from progan_service.serving.watching.calls import Call


@dataclass
class Total:
    """How often, and how long in all, in seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds


@dataclass
class VersionStatistics:
    """The calls of a version.

    last_s    when the last one ended, in seconds since 1970; 0 without one
    images    that were sent
    """

    last_s: float = 0.0
    images: int = 0
    succeeded: Total = field(default_factory=Total)
    failed: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    inference: Total = field(default_factory=Total)
    encoding: Total = field(default_factory=Total)


class Statistics:
    """The statistics of all versions that have had calls. Used in the event loop only."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], VersionStatistics] = {}

    def of(self, model: str, version: int) -> VersionStatistics:
        return self._versions.setdefault((model, version), VersionStatistics())

    def add(self, call: Call, duration_s: float) -> None:
        """Count a call that has ended, if it asked a version for images."""
        if not call.version or (call.code == "OK" and not call.images):
            return
        version = self.of(call.model, call.version)
        version.last_s = time.time()
        if call.code != "OK":
            version.failed.add(duration_s)
            return
        version.succeeded.add(duration_s)
        version.images += call.images
        version.queue.add(call.queue_s)
        version.inference.add(call.inference_s)
        version.encoding.add(call.encode_s)
