"""Where calls enter and leave."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from progan_service.serving.errors import Unavailable


class Gate:
    """Once closed it refuses new calls; those inside go on to their end."""

    def __init__(self) -> None:
        self.inside = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Raises Unavailable once closed."""
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
        """Refuse new calls; returns when the last one has left."""
        self._closed = True
        await self.emptied()

    async def emptied(self) -> None:
        """Returns when no call is inside."""
        await self._empty.wait()
