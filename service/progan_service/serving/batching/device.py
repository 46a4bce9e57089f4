"""Where batches run: a thread for each device, so that TensorFlow never holds up the event loop."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Done = Callable[[Any], None]


class DeviceThread:
    """Does work in the order in which it comes. A device that hangs does not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def start(self, work: Callable[[], Any], done: Done) -> None:
        """Have `work` done; `done` gets its result, or the exception it raised, in this thread: it must be short."""
        self._work.put((work, done))

    def close(self) -> None:
        """End after the work that is there."""
        self._work.put(None)

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            work, done = item
            try:
                result = work()
            except Exception as error:
                result = error
            done(result)
            del item, work, done, result  # what they refer to may be unloaded while this thread waits
