"""Images that are being made or wait for their caller to take them: a bound on their bytes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from progan_service.serving.batching.work import counted
from progan_service.serving.errors import QueueFull
from progan_service.serving.watching.metrics import Metrics

_RETRY_S = 1.0


class Unsent:
    """The bytes that all calls hold. Used in the event loop only; `bytes` may be read from any thread.

    - A call begins only if its reply, or the first piece of its stream, fits. A running stream always has that room, so
      it goes on at the pace of its reader, whatever others do.
    - A stream is made ahead of its reader while all calls hold at most half of the room, and its caller a quarter.
    - A caller holds at most half of the room, so nobody can take all of it by not reading.
    """

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._of_caller: Counter[str] = Counter()

    @contextmanager
    def hold(self, caller: str, model: str, images: int, size: int) -> Iterator["Held"]:
        """Hold so many bytes for images of a model within the block. Raise QueueFull if they do not fit."""
        if problem := self._problem(caller, size):
            self._metrics.rows_dropped.labels(model, "rejected").inc(images)
            raise QueueFull(f"no room for {counted(images)}, {size} bytes: {problem}", _RETRY_S)
        held = Held(self, caller)
        held.take(size)
        try:
            yield held
        finally:
            held.take(-held.bytes)

    def add(self, caller: str, size: int) -> None:
        self.bytes += size
        self._of_caller[caller] += size
        if not self._of_caller[caller]:
            del self._of_caller[caller]

    def is_plenty(self, caller: str, more: int) -> bool:
        """Return whether a call may hold so many bytes more, made ahead of its reader."""
        return self.bytes + more <= self._max_bytes // 2 and self._of_caller[caller] + more <= self._max_bytes // 4

    def _problem(self, caller: str, size: int) -> str:
        """Return why so many more bytes do not fit, or '' if they do."""
        if self.bytes + size > self._max_bytes:
            return f"{self.bytes} wait to be sent already, max_unsent_bytes is {self._max_bytes}"
        if self._of_caller[caller] + size > self._max_bytes // 2:
            return f"{self._of_caller[caller]} wait for you already, and one caller gets half of {self._max_bytes}"
        return ""


class Held:
    """What one call holds."""

    def __init__(self, unsent: Unsent, caller: str) -> None:
        self._unsent = unsent
        self._caller = caller
        self.bytes = 0

    def grow(self, size: int) -> bool:
        """Hold so many bytes more, if there is plenty of room. Return whether there was."""
        plenty = self._unsent.is_plenty(self._caller, size)
        if plenty:
            self.take(size)
        return plenty

    def take(self, size: int) -> None:
        self.bytes += size
        self._unsent.add(self._caller, size)
