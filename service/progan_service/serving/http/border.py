"""The border of HTTP: every call enters here, crosses to the event loop of the calls, and its replies come back.

The HTTP port has a thread and an event loop of its own. A call runs in the event loop that all calls share. Its replies
are handed over one at a time: the next one is made when the last one has been sent.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any

from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import Tokens
from progan_service.serving.errors import DeadlineExceeded, ServingError, Unavailable
from progan_service.serving.http.deadlines import seconds_left
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.handoff import Handoff
from progan_service.serving.models.gate import Gate
from progan_service.serving.watching.accounted import accounted
from progan_service.serving.watching.calls import Call, new_id, sent_id
from progan_service.serving.watching.metrics import Metrics

Replies = Awaitable[Any] | AsyncIterator[Any]
Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Rpc:
    """What can be called.

    behaviour   takes the request and its Call, and returns the reply or yields replies. It raises ServingErrors
    """

    service: str
    method: str
    behaviour: Callable[[Any, Call], Replies]


class Border:
    """Lets calls in and ends them. Made in the event loop of the calls, used in that of the HTTP port."""

    def __init__(self, metrics: Metrics, gate: Gate, tokens: Reloadable[Tokens] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self._gate = gate
        self._tokens = tokens

    async def replies(
        self, exchange: Exchange, rpc: Rpc, read: Callable[[], Awaitable[Any]]
    ) -> AsyncGenerator[Any, None]:
        """Yield the replies to a call. When the next one is asked for, the last one must have been sent.

        read   returns the request. It is awaited once the caller is known, and may raise ServingErrors
        Raise a ServingError. Whatever goes wrong, the account of the call has it.
        """
        headers = exchange.all_headers()
        call = _begin(rpc, exchange.peer(), headers)
        exchange.request_id = call.request_id
        with ExitStack() as held:
            ask: Callable[[], Replies]
            try:
                self._admit(call, headers)
                held.enter_context(exchange.calling())
                request = await read()
            except Exception as error:
                ask = _failing(error)
            else:
                ask = self._asking(rpc, request, call)
                del request
            async with aclosing(self._crossed(call, headers, ask, exchange)) as replies:
                del ask
                async for reply in replies:
                    yield reply

    def _admit(self, call: Call, headers: Headers) -> None:
        """Raise Unauthenticated for a caller who is not known, and InvalidArgument for a deadline that is none."""
        if self._tokens:
            caller = self._tokens.value.caller([value for name, value in headers if name == "authorization"])
            call.caller, call.rights = caller.name, caller.rights
        call.deadline = time.monotonic() + seconds_left(headers)

    def _asking(self, rpc: Rpc, request: Any, call: Call) -> Callable[[], Replies]:
        given = [request]

        def ask() -> Replies:
            call.run()
            return rpc.behaviour(given.pop(), call)  # nothing here keeps the request

        return ask

    async def _crossed(
        self, call: Call, headers: Headers, ask: Callable[[], Replies], exchange: Exchange
    ) -> AsyncGenerator[Any, None]:
        """Run a call in the loop of the calls, and yield its replies here."""
        handoff = Handoff(self._loop)
        running = asyncio.run_coroutine_threadsafe(self._run(call, headers, ask, handoff), self._loop)
        running.add_done_callback(lambda _: handoff.end())
        try:
            async with aclosing(handoff.replies()) as replies:
                async for reply in replies:
                    yield reply
            if error := _outcome(running):
                raise error
        finally:
            if exchange.stalled:
                self._metrics.stalled_readers.inc()
                handoff.settle(exchange.stalled)
            elif exchange.ended:  # a caller may close the connection as soon as it has the answer
                handoff.settle()
            else:
                running.cancel()

    async def _run(
        self, call: Call, headers: Headers, ask: Callable[[], Replies], handoff: Handoff
    ) -> ServingError | None:
        """Run a call, and return the error that it ends with."""
        try:
            with accounted(call, self._metrics, headers):
                await self._in_time(call, ask, handoff)
        except ServingError as error:
            return error.with_traceback(None)
        return None

    async def _in_time(self, call: Call, ask: Callable[[], Replies], handoff: Handoff) -> None:
        left_s = call.deadline - time.monotonic()
        limit = asyncio.timeout(None if left_s == float("inf") else left_s)
        try:
            async with limit:
                with self._gate.enter():
                    await _pass_on(ask(), handoff)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None


async def _pass_on(replies: Replies, handoff: Handoff) -> None:
    if isinstance(replies, Awaitable):
        await handoff.put(await replies)
        return
    async with aclosing(replies):  # type: ignore[type-var]  # a generator
        async for reply in replies:
            await handoff.put(reply)
            del reply


def _failing(error: Exception) -> Callable[[], Replies]:
    def fail() -> Replies:
        raise error.with_traceback(None) if isinstance(error, ServingError) else error

    return fail


def _outcome(running: "Future[ServingError | None]") -> ServingError | None:
    try:
        return running.result()
    except CancelledError:
        return Unavailable("the server is shutting down; ask another one")


def _begin(rpc: Rpc, peer: str, headers: Headers) -> Call:
    sent = sent_id(headers)
    return Call(
        rpc.method,
        protocol="http",
        service=rpc.service,
        peer=peer,
        request_id=sent or new_id(),
        id_was_sent=bool(sent),
    )
