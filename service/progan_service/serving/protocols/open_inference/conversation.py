"""Requests of one stream that run at the same time; their replies leave one at a time, each as it is ready."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

_AT_A_TIME = 32  # requests of one stream; more are not read before one has been answered


async def conversation(
    requests: AsyncIterator[Any], answers: Callable[[Any], AsyncGenerator[Any, None]]
) -> AsyncGenerator[Any, None]:
    """Yield the replies to each request.

    answers   yields the replies to a request. It goes on when its last reply has been sent, and raises nothing
    """
    ready: asyncio.Queue[tuple[Any, asyncio.Event] | None] = asyncio.Queue()
    room = asyncio.Semaphore(_AT_A_TIME)

    async def answer(request: Any) -> None:
        async with aclosing(answers(request)) as replies:
            async for reply in replies:
                sent = asyncio.Event()
                ready.put_nowait((reply, sent))
                del reply
                await sent.wait()

    async def read() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                await room.acquire()
                async for request in requests:
                    group.create_task(answer(request)).add_done_callback(lambda _: room.release())
                    del request
                    await room.acquire()
        finally:
            ready.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        while item := await ready.get():
            reply, sent = item
            del item
            yield reply
            del reply
            sent.set()
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
