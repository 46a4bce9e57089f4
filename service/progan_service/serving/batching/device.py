"""Where batches run: a thread for each device, so that TensorFlow never blocks the event loop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

from numpy.typing import NDArray

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


YIELDS = 7  # times that work in the background lets other work go first


class _Item(NamedTuple):
    work: Callable[[], Any]
    done: Done
    yields: int  # how often it still lets others go first


class DeviceThread:
    """Runs the work of one device, one after the other. A device that hangs does not keep the process from ending.

    Work in the background lets what waits when its turn comes go first, seven times.

    Threads: `start` and `close` may be called from any thread; the queue between is the only shared state. `work` and
    `done` run in this thread.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[_Item | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def start(self, work: Callable[[], Any], done: Done, *, background: bool = False) -> None:
        """Queue `work`. `done` gets its result, or the exception that it raised; it must be short."""
        self._work.put(_Item(work, done, YIELDS if background else 0))

    def close(self) -> None:
        """End the thread after the work that is queued."""
        self._work.put(None)

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            if item.yields and not self._work.empty():
                self._work.put(item._replace(yields=item.yields - 1))
                continue
            work, done, _ = item
            try:
                result = work()
            except Exception as error:
                result = error
            done(result)
            del item, work, done, result  # what they refer to may be unloaded while this thread waits
