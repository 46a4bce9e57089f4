"""How replies leave: a caller has to take them."""

import asyncio
from typing import Any

import grpc

from progan_service.serving.errors import ReaderStalled
from progan_service.serving.watching.metrics import Metrics

_UNIT_BYTES = 2 * 2**20  # about what a message of a stream has

Context = grpc.aio.ServicerContext[Any, Any]


class Sender:
    """Sends replies, and ends calls whose caller does not read. Used in the event loop only."""

    def __init__(self, stall_s: float, metrics: Metrics) -> None:
        self._stall_s = stall_s
        self._metrics = metrics

    async def send(self, context: Context, data: bytes) -> None:
        """Return when the message has left for the caller's side: gRPC holds one message of a call, never two.

        Raise ReaderStalled when that takes longer than the limit, for each 2 MiB of the message.
        """
        limit_s = self._stall_s * max(1.0, len(data) / _UNIT_BYTES)
        try:
            async with asyncio.timeout(limit_s):
                await context.write(data)
        except TimeoutError:
            self._metrics.stalled_readers.inc()
            raise ReaderStalled(f"the caller did not take {len(data)} bytes within {limit_s:.3g} s") from None
