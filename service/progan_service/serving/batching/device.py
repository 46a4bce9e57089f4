"""Where batches run: in threads of each device, so that TensorFlow never blocks the event loop."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from progan_service.serving.batching.flights import Flights

Done = Callable[[Any], None]


@dataclass(frozen=True)
class Batch:
    """What a device computed, and the seconds that it took.

    pixels   uint8 images [N, R, R, C]; or, of another kind of batch, any rows [N, ...]
    """

    pixels: NDArray[Any]
    seconds: float


class DeviceOutOfMemoryError(Exception):
    """A batch does not fit into the device's memory; a smaller one may."""


# Starts a batch on one device and returns at once: inputs [N, ...] of an allowed size, and the function that gets the
# outcome, in any thread.
Run = Callable[[tuple[NDArray[Any], ...], Callable[[Batch | Exception], None]], None]


@dataclass(eq=False)
class Device:
    """A device as its batcher sees it: how a batch is started, and those in flight."""

    run: Run
    flights: Flights = field(default_factory=Flights)


YIELDS = 7  # times that work in the background lets other work go first


class _Item(NamedTuple):
    work: Callable[[], Any]
    done: Done
    yields: int  # how often it still lets others go first
    overlaps: bool


class DeviceThreads:
    """Runs the work of one device, one after the other. A device that hangs does not keep the process from ending.

    With two threads, two works run at a time if both may overlap with others. They begin in the order in which they
    came. All other work runs alone. Work in the background lets what waits when its turn comes go first, seven times.

    Threads: `start` and `close` may be called from any thread; one lock guards all that is shared. `work` and `done`
    run in a thread of the device. What `done` starts is there before the next work is chosen.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Item] = deque()
        self._running = 0
        self._overlapping = False  # what runs, with others
        self._closed = False
        for number in range(count):
            threading.Thread(target=self._serve, name=f"{name} {number}" if number else name, daemon=True).start()

    def start(self, work: Callable[[], Any], done: Done, *, background: bool = False, overlaps: bool = False) -> None:
        """Queue `work`. `done` gets its result, or the exception that it raised; it must be short."""
        with self._changed:
            self._waiting.append(_Item(work, done, YIELDS if background else 0, overlaps))
            self._changed.notify()

    def close(self) -> None:
        """End the threads after the work that is queued."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _serve(self) -> None:
        while item := self._next():
            try:
                result = item.work()
            except Exception as error:
                result = error
            item.done(result)
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
            del item, result  # what they refer to may be unloaded while this thread waits

    def _next(self) -> _Item | None:
        """Return the next work as soon as it may run; None at the end."""
        with self._changed:
            while self._waiting or not self._closed:
                if item := self._begin_locked():
                    return item
                self._changed.wait()
        return None

    def _begin_locked(self) -> _Item | None:
        """Take the work whose turn it is; None if there is none, or it must wait for others to end."""
        while len(self._waiting) > 1 and self._waiting[0].yields:
            item = self._waiting.popleft()
            self._waiting.append(item._replace(yields=item.yields - 1))
        if not self._waiting:
            return None
        overlaps = self._waiting[0].overlaps
        if self._running and not (overlaps and self._overlapping):
            return None
        self._running, self._overlapping = self._running + 1, overlaps
        return self._waiting.popleft()
