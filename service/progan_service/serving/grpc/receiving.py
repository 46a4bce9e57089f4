"""How requests come in: bounds on their number, size and duration. Nothing is parsed before its size is checked.

gRPC itself accepts any number of unfinished messages, each up to its limit. So each call asks for its message itself:
until then HTTP/2's flow control keeps what the caller sends on the caller's side.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext, suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import grpc
from google.protobuf import message

from progan_service.serving.errors import InvalidArgument, ServingError, Unread
from progan_service.serving.grpc.door import Door
from progan_service.serving.grpc.places import Places
from progan_service.serving.grpc.status import Context, refuse

# Requests that are on their way into the server at a time: 128 in all
_AT_A_TIME = 96  # each of up to the largest size
_OF_LIBRARIES = 32  # health and reflection; health is open to strangers
_OF_A_CONNECTION = 32  # of whatever kind
_PATIENCE_S = 20  # until the last byte
_HURRIED_S = 2.0  # instead, while others wait for a place
_LIBRARY_HURRIED_S = 0.1  # a name comes together with its call
_STREAMS = 32  # streams of requests that wait for their next one, or receive it
_STREAM_PATIENCE_S = 3600
_SMALL_BYTES = 64 * 2**10  # parsed in less than a millisecond
_LIBRARY_BYTES = 4 * 2**10  # the largest request of health and reflection, which are names

Request = TypeVar("Request")


class Receiver:
    """Receives the request of each call. Used in the event loop only."""

    def __init__(self, max_request_bytes: int) -> None:
        self.door = Door()
        self._max_bytes = max_request_bytes
        self._places = Places(_AT_A_TIME, _PATIENCE_S, _HURRIED_S)
        self._library_places = Places(_OF_LIBRARIES, _PATIENCE_S, _LIBRARY_HURRIED_S)
        self._stream_places = Places(_STREAMS, _STREAM_PATIENCE_S, _HURRIED_S)
        self._of_peer: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._parsing = asyncio.Lock()

    async def receive(
        self, context: Context, parse: Callable[[bytes], Request], owner: str, limit: int | None = None
    ) -> Request:
        """Return the request of a call. Raise a ServingError if it is refused, too large, too slow or does not parse.

        owner   who shares places with whom
        limit   of its bytes, if this rpc needs fewer than the server takes
        """
        return await self._receive(context, parse, self._places, owner, self.door.waiting(owner), limit)

    async def receive_name(self, context: Context, parse: Callable[[bytes], Request]) -> Request:
        """Return a request of health or reflection. Anybody may call them, so they have places of their own."""
        address = context.peer().rpartition(":")[0]
        return await self._receive(context, parse, self._library_places, address, nullcontext(), _LIBRARY_BYTES)

    async def receive_all(
        self, context: Context, parse: Callable[[bytes], Request], owner: str
    ) -> AsyncIterator[Request]:
        """Yield the requests of a stream as they come. Raise a ServingError as `receive` does.

        gRPC does not tell whether a request has begun to come. So a stream that waits for its next one holds a place,
        and ends if it still waits when another stream needs that.
        """
        places = self._stream_places
        while True:
            async with places.place(owner):
                try:
                    async with places.arriving(owner):
                        data = await context.read()
                except TimeoutError:
                    raise Unread("too many streams wait for their next request, and this one is slow", 1.0) from None
                if data is grpc.aio.EOF:
                    return
                request = await self._parsed(parse, data)
            del data
            yield request

    async def _receive(
        self,
        context: Context,
        parse: Callable[[bytes], Request],
        places: Places,
        owner: str,
        waiting: AbstractContextManager[None],
        limit: int | None,
    ) -> Request:
        async with AsyncExitStack() as held:
            with waiting:
                await held.enter_async_context(self._of(context.peer()))
                await held.enter_async_context(places.place(owner))
            data = await self._read(context, places, owner)
            if limit is not None and len(data) > limit:
                raise InvalidArgument("request", f"has {len(data)} bytes; this rpc takes at most {limit}")
            return await self._parsed(parse, data)

    def _of(self, peer: str) -> asyncio.Semaphore:
        places = self._of_peer.get(peer)
        if places is None:
            self._of_peer[peer] = places = asyncio.Semaphore(_OF_A_CONNECTION)
        return places

    async def _read(self, context: Context, places: Places, owner: str) -> bytes:
        arrival = None
        try:
            async with places.arriving(owner) as arrival:
                data = await context.read()
        except TimeoutError:
            if arrival and arrival.hurried:
                raise Unread("the server receives too many requests at a time, and this one is slow", 1.0) from None
            raise InvalidArgument("request", f"did not arrive within {_PATIENCE_S} s") from None
        if data is grpc.aio.EOF:  # gRPC says the same of no message, of half a message and of one above its limit
            raise InvalidArgument("request", f"did not arrive whole; it may have at most {self._max_bytes} bytes")
        return data  # type: ignore[no-any-return]

    async def _parsed(self, parse: Callable[[bytes], Request], data: bytes) -> Request:
        """Parse a request; large ones so that all of them take at most a quarter of the event loop's time."""
        if len(data) <= _SMALL_BYTES:
            return _parsed(parse, data)
        async with self._parsing:
            began = time.monotonic()
            try:
                return _parsed(parse, data)
            finally:
                await asyncio.sleep(3 * (time.monotonic() - began))


def _parsed(parse: Callable[[bytes], Request], data: bytes) -> Request:
    try:
        return parse(data)
    except message.DecodeError:
        raise InvalidArgument("request", "does not parse as the message of this rpc") from None


class LibraryRequests(grpc.aio.ServerInterceptor):
    """Bounds the requests of services that come from a library (health, reflection), as the border does for ours."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:  # the border asks for the request itself
            return handler
        handle = self._many if handler.request_streaming else self._one
        return grpc.stream_stream_rpc_method_handler(handle(handler), None, handler.response_serializer)

    def _one(self, handler: Any) -> Callable[..., Any]:
        async def handle(_: object, context: Context) -> None:
            try:
                request = await self._receiver.receive_name(context, handler.request_deserializer)
            except ServingError as error:
                return refuse(context, error)
            if handler.response_streaming:  # it writes its replies itself
                await handler.unary_stream(request, context)
            else:
                await context.write(await handler.unary_unary(request, context))

        return handle

    def _many(self, handler: Any) -> Callable[..., Any]:
        async def requests(context: Context) -> AsyncIterator[Any]:
            with suppress(ServingError):  # the end of the stream is one, too
                while True:
                    yield await self._receiver.receive_name(context, handler.request_deserializer)

        async def handle(_: object, context: Context) -> AsyncIterator[Any]:
            async for reply in handler.stream_stream(requests(context), context):
                yield reply

        return handle
