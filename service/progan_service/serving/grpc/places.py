"""Places for requests that come in: fair among those who send them, and never held for long while others wait."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

One = TypeVar("One")


class Arrival:
    """A request on its way in. It has `patience_s`, and `hurried_s` in all from when another one needs its place."""

    def __init__(self, patience_s: float, hurried_s: float) -> None:
        self._began = asyncio.get_running_loop().time()
        self._hurried_s = hurried_s
        self.hurried = False
        self.limit = asyncio.timeout_at(self._began + patience_s)

    def hurry(self) -> None:
        """Shorten its time. To be called while its limit is in use, once."""
        self.hurried = True
        if not self.limit.expired():  # else its time has passed just now
            self.limit.reschedule(self._began + self._hurried_s)


class Places:
    """So many places, in the event loop.

    A free place goes to the owner who has the fewest. For each request that waits, one of the owner who has the most is
    hurried: the one that is there for longest.
    """

    def __init__(self, count: int, patience_s: float, hurried_s: float) -> None:
        self._free = count
        self._times = patience_s, hurried_s
        self._held = Counter[str]()  # by owner
        self._arriving: dict[str, dict[Arrival, None]] = {}  # by owner: those that may be hurried, oldest first
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}  # by owner, oldest first

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it within the block."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, {})[turn] = None
        self._serve()
        try:
            await turn
            yield
        finally:
            if turn.cancelled():
                _remove(self._waiting, owner, turn)
            else:
                self._leave(owner)

    @asynccontextmanager
    async def arriving(self, owner: str) -> AsyncIterator[Arrival]:
        """Limit the time of the block, in which a request comes in. Raise TimeoutError when it has passed."""
        arrival = Arrival(*self._times)
        async with arrival.limit:
            self._arriving.setdefault(owner, {})[arrival] = None
            self._hurry()
            try:
                yield arrival
            finally:
                if not arrival.hurried:
                    _remove(self._arriving, owner, arrival)

    def _serve(self) -> None:
        while self._free and self._waiting:
            owner = min(self._waiting, key=self._held.__getitem__)
            turn = next(iter(self._waiting[owner]))
            _remove(self._waiting, owner, turn)
            if not turn.done():
                turn.set_result(None)
                self._free -= 1
                self._held[owner] += 1
        self._hurry()

    def _leave(self, owner: str) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._serve()

    def _hurry(self) -> None:
        if self._waiting and self._arriving:
            owner = max(self._arriving, key=self._held.__getitem__)
            arrival = next(iter(self._arriving[owner]))
            _remove(self._arriving, owner, arrival)
            arrival.hurry()


def _remove(by_owner: dict[str, dict[One, None]], owner: str, one: One) -> None:
    """Remove one if it is there, and its owner with the last one."""
    if ones := by_owner.get(owner):
        ones.pop(one, None)
        if not ones:
            del by_owner[owner]
