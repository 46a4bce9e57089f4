"""Replies cross from one event loop to another, one at a time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any


class Handoff:
    """Made and read in the loop of the reader; `put` is used in the loop that the replies come from."""

    def __init__(self, source: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._reader = asyncio.get_running_loop()
        self._ready: asyncio.Queue[tuple[Any, asyncio.Future[None]] | None] = asyncio.Queue()
        self._taking: asyncio.Future[None] | None = None

    async def put(self, reply: Any) -> None:
        """Hand over a reply. Return when the reader asks for the next one; or raise what it says to `settle`."""
        taken: asyncio.Future[None] = self._source.create_future()
        self._reader.call_soon_threadsafe(self._ready.put_nowait, (reply, taken))
        del reply
        await taken

    def end(self) -> None:
        """Let `replies` end. May be called from any thread."""
        with suppress(RuntimeError):  # the reader's loop has ended
            self._reader.call_soon_threadsafe(self._ready.put_nowait, None)

    async def replies(self) -> AsyncGenerator[Any, None]:
        """Yield each reply that is put, until `end`."""
        while item := await self._ready.get():
            reply, self._taking = item
            del item
            yield reply
            del reply
            self.settle()

    def settle(self, error: Exception | None = None) -> None:
        """Let `put` return, or raise an error if the reader could not pass on the reply."""
        if self._taking:
            self._source.call_soon_threadsafe(_settle, self._taking, error)


def _settle(taken: "asyncio.Future[None]", error: Exception | None) -> None:
    if taken.done():  # the call was cancelled
        return
    if error:
        taken.set_exception(error)
    else:
        taken.set_result(None)
