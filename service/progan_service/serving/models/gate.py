"""A gate that counts the calls inside, and can be closed to new ones."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from progan_service.serving.errors import Unavailable


class Gate:
    """Counts the calls inside. Once closed it refuses new calls, and those inside go on to their end.

    Threads: used in one event loop only. No lock.
    """

    def __init__(self) -> None:
        self.inside = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count a call as inside within the block. Raises Unavailable once closed."""
        if self._closed:
            raise Unavailable("the server is shutting down; ask another one")
        self.inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.inside -= 1
            if not self.inside:
                self._empty.set()

    async def close(self) -> None:
        """Refuse new calls. Return when the last one has left."""
        self._closed = True
        await self.emptied()

    async def emptied(self) -> None:
        """Return when no call is inside."""
        await self._empty.wait()
