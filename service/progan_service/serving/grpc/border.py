"""The border of gRPC: every call of every service enters here, and every error leaves here as a status."""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf import message, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from progan_service.serving.errors import InvalidArgument, ServingError
from progan_service.serving.grpc.status import trailers
from progan_service.serving.models.gate import Gate
from progan_service.serving.watching.accounted import accounted
from progan_service.serving.watching.calls import REQUEST_ID, Call, request_id
from progan_service.serving.watching.metrics import Metrics

token_name: ContextVar[str] = ContextVar("token_name", default="")  # each call has a task, and so a context

Context = grpc.aio.ServicerContext[Any, Any]
Headers = Iterable[tuple[str, str | bytes]]
Begin = Callable[[Context, Headers], Call]

_UNKNOWN = ("", "other")  # service and method of a path that no service has


@dataclass(frozen=True)
class Service:
    """A gRPC service.

    servicer   has a method for each rpc, which takes the request and its Call, and returns the reply, or yields replies
    """

    descriptor: ServiceDescriptor
    servicer: object


class Border:
    """Lets calls in and ends them. Used in the event loop only."""

    def __init__(self, metrics: Metrics, gate: Gate) -> None:
        self._metrics = metrics
        self._gate = gate
        self._names: dict[str, tuple[str, str]] = {}  # by path: service and method

    def handlers(self, service: Service) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Return the handler of each rpc of a service, by its name."""
        name = service.descriptor.full_name
        handlers = {}
        for method in service.descriptor.methods:
            self._names[f"/{name}/{method.name}"] = (name, method.name)
            handlers[method.name] = self._handler(method, getattr(service.servicer, method.name))
        return handlers

    def refusal(self, path: str, error: ServingError) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return a handler that refuses a call of any kind before anything of its request is read."""

        async def refuse(_: object, context: Context) -> AsyncIterator[bytes]:
            headers = context.invocation_metadata() or ()
            call = _begin(*self._names.get(path, _UNKNOWN), context, headers)
            try:
                with accounted(call, self._metrics, headers):
                    raise error
            except ServingError as refused:
                await _end(context, call, refused)
            yield b""  # never reached

        return grpc.stream_stream_rpc_method_handler(refuse)  # a handler of two streams waits for no message

    def _handler(self, method: MethodDescriptor, behaviour: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
        begin = partial(_begin, method.containing_service.full_name, method.name)
        parse = _parser(message_factory.GetMessageClass(method.input_type))
        if method.server_streaming:
            stream = self._streaming(begin, behaviour)
            return grpc.unary_stream_rpc_method_handler(stream, parse, _serialize)
        return grpc.unary_unary_rpc_method_handler(self._unary(begin, behaviour), parse, _serialize)

    def _unary(self, begin: Begin, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: message.Message | None, context: Context) -> message.Message:
            headers = context.invocation_metadata() or ()
            call = begin(context, headers)
            try:
                with accounted(call, self._metrics, headers), self._gate.enter():
                    _let_in(call, request)
                    reply: message.Message = await behaviour(request, call)
                    return reply
            except ServingError as error:
                await _end(context, call, error)

        return answer

    def _streaming(self, begin: Begin, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: message.Message | None, context: Context) -> AsyncIterator[message.Message]:
            headers = context.invocation_metadata() or ()
            call = begin(context, headers)
            try:
                with accounted(call, self._metrics, headers), self._gate.enter():
                    _let_in(call, request)
                    async with aclosing(behaviour(request, call)) as replies:
                        async for reply in replies:
                            yield reply
            except ServingError as error:
                await _end(context, call, error)

        return answer


def _begin(service: str, method: str, context: Context, headers: Headers) -> Call:
    remaining_s = context.time_remaining()
    call = Call(
        method,
        deadline=float("inf") if remaining_s is None else time.monotonic() + remaining_s,
        protocol="grpc",
        service=service,
        caller=token_name.get(),
        peer=context.peer(),
        request_id=request_id(headers),
    )
    context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
    return call


def _let_in(call: Call, request: message.Message | None) -> None:
    if request is None:
        raise InvalidArgument("request", "does not parse as the message of this rpc")
    call.run()


async def _end(context: Context, call: Call, error: ServingError) -> NoReturn:
    metadata = ((REQUEST_ID, call.request_id), *trailers(error))
    await context.abort(getattr(grpc.StatusCode, error.code), str(error), trailing_metadata=metadata)


def _parser(request_class: type[message.Message]) -> Callable[[bytes], message.Message | None]:
    """Return a parser that gives None for bytes that do not parse.

    grpc.aio would answer an exception with UNKNOWN and the exception's text.
    """

    def parse(data: bytes) -> message.Message | None:
        try:
            return request_class.FromString(data)
        except message.DecodeError:
            return None

    return parse


def _serialize(reply: message.Message) -> bytes:
    return reply.SerializeToString()
