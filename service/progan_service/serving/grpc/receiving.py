"""How requests come in: bounds on their number, size and duration. Nothing is parsed before its size is checked.

gRPC itself accepts any number of unfinished messages, each up to its limit. So each call asks for its message itself:
until then HTTP/2's flow control keeps what the caller sends on the caller's side.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import grpc
from google.protobuf import message

from progan_service.serving.errors import InvalidArgument

_AT_A_TIME = 128  # requests that are on their way into the server, each of up to the largest size
_OF_A_CONNECTION = 32  # of these
_PATIENCE_S = 20  # until the last byte
_SMALL_BYTES = 64 * 2**10  # parsed in less than a millisecond
_LIBRARY_BYTES = 4 * 2**10  # the largest request of health and reflection, which are names

Context = grpc.aio.ServicerContext[Any, Any]
Request = TypeVar("Request")


class Receiver:
    """Receives the request of each call. Used in the event loop only."""

    def __init__(self, max_request_bytes: int) -> None:
        self._max_bytes = max_request_bytes
        self._places = asyncio.Semaphore(_AT_A_TIME)
        self._of_peer: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._parsing = asyncio.Lock()

    async def receive(self, context: Context, parse: Callable[[bytes], Request], limit: int | None = None) -> Request:
        """Return the request of a call. Raise InvalidArgument if it is too large, too slow or does not parse.

        limit   of its bytes, if this rpc needs fewer than the server takes
        """
        async with self._of(context.peer()), self._places:
            data = await self._read(context)
            if limit is not None and len(data) > limit:
                raise InvalidArgument("request", f"has {len(data)} bytes; this rpc takes at most {limit}")
            return _parsed(parse, data) if len(data) <= _SMALL_BYTES else await self._parsed_in_turn(parse, data)

    def _of(self, peer: str) -> asyncio.Semaphore:
        places = self._of_peer.get(peer)
        if places is None:
            self._of_peer[peer] = places = asyncio.Semaphore(_OF_A_CONNECTION)
        return places

    async def _read(self, context: Context) -> bytes:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                data = await context.read()
        except TimeoutError:
            raise InvalidArgument("request", f"did not arrive within {_PATIENCE_S} s") from None
        if data is grpc.aio.EOF:  # gRPC says the same of no message, of half a message and of one above its limit
            raise InvalidArgument("request", f"did not arrive whole; it may have at most {self._max_bytes} bytes")
        return data  # type: ignore[no-any-return]

    async def _parsed_in_turn(self, parse: Callable[[bytes], Request], data: bytes) -> Request:
        """Parse a large request, so that all of them take at most a quarter of the event loop's time."""
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
                request = await self._receiver.receive(context, handler.request_deserializer, _LIBRARY_BYTES)
            except InvalidArgument as error:
                context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
                context.set_details(str(error))
                return
            if handler.response_streaming:  # it writes its replies itself
                await handler.unary_stream(request, context)
            else:
                await context.write(await handler.unary_unary(request, context))

        return handle

    def _many(self, handler: Any) -> Callable[..., Any]:
        async def requests(context: Context) -> AsyncIterator[Any]:
            with suppress(InvalidArgument):  # the end of the stream is one, too
                while True:
                    yield await self._receiver.receive(context, handler.request_deserializer, _LIBRARY_BYTES)

        async def handle(_: object, context: Context) -> AsyncIterator[Any]:
            async for reply in handler.stream_stream(requests(context), context):
                yield reply

        return handle
