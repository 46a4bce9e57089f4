"""Conversions that take long."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_SMALL_BYTES = 64 * 2**10  # converted in about a millisecond

Result = TypeVar("Result")


class Apart:
    """Converts large messages in a thread, so that probes are answered meanwhile; and one at a time, to save memory.

    Used in the event loop of the HTTP port.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def do(self, work: Callable[[], Result], size: int) -> Result:
        """Return the result of a conversion of so many bytes."""
        if size <= _SMALL_BYTES:
            return work()
        async with self._turn:
            return await asyncio.to_thread(work)
