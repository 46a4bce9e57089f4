"""Work that may hang, such as reading from a network mount that is gone, runs aside: nobody has to wait for it."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_threads: set[threading.Thread] = set()


def aside(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Start `work` in a daemon thread of its own, and return the future of its result in the running event loop.

    Neither the loop nor the end of the process waits for the thread. `work` goes on when the future is cancelled.
    """
    return asyncio.wrap_future(_start(work, name))


def within(work: Callable[[], T], seconds: float, name: str) -> T:
    """Return the result of `work`, which runs in a daemon thread. Raises TimeoutError if that takes longer."""
    return _start(work, name).result(timeout=seconds)


def anything_runs() -> bool:
    """Tell whether work that was started aside has not ended."""
    return bool(_threads)


async def in_time(future: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a future, but no longer than `seconds`. Return whether it is done; it is not cancelled."""
    done, _ = await asyncio.wait({future}, timeout=seconds)
    return bool(done)


def _start(work: Callable[[], T], name: str) -> Future[T]:
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)
        finally:
            _threads.discard(thread)

    thread = threading.Thread(target=run, name=name, daemon=True)
    _threads.add(thread)
    thread.start()
    return outcome
