"""The border of gRPC: every call of every service enters here, and every error leaves here as a status."""

import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc
from google.protobuf import message, message_factory
from google.protobuf.descriptor import MethodDescriptor

from progan_service.serving.errors import ReaderStalled, ServingError
from progan_service.serving.grpc.accepting import hang_up
from progan_service.serving.grpc.connections import Callers
from progan_service.serving.grpc.receiving import Receiver
from progan_service.serving.grpc.sending import Sender
from progan_service.serving.grpc.status import Context, refuse
from progan_service.serving.models.gate import Gate
from progan_service.serving.protocols.service import Reply, Service
from progan_service.serving.rights import ALL_RIGHTS, Rights
from progan_service.serving.watching.accounted import accounted
from progan_service.serving.watching.calls import REQUEST_ID, UNKNOWN_METHOD, Call, new_id, sent_id
from progan_service.serving.watching.metrics import Metrics

# Each call has a task, and so a context.
token_name: ContextVar[str] = ContextVar("token_name", default="")
token_rights: ContextVar[Rights] = ContextVar("token_rights", default=ALL_RIGHTS)

Headers = Iterable[tuple[str, str | bytes]]
Run = Callable[[Call, Context], Awaitable[None]]

_UNKNOWN = ("", UNKNOWN_METHOD)  # service and method of a path that no service has


class Border:
    """Lets calls in and ends them. Used in the event loop only.

    To gRPC every call is one of two streams: the border itself receives the request, and knows when a reply has left.
    A refused call ends with a status that is set. With gRPC's `abort` the call and its exception would keep each other,
    and all that its frames refer to, until the next garbage collection.
    """

    def __init__(self, metrics: Metrics, gate: Gate, receiver: Receiver, sender: Sender, callers: Callers) -> None:
        self._metrics = metrics
        self._gate = gate
        self._receiver = receiver
        self._callers = callers
        self._sender = sender
        self._names: dict[str, tuple[str, str]] = {}  # by path: service and method

    def handlers(self, service: Service) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Return the handler of each rpc of a service, by its name."""
        name = service.descriptor.full_name
        handlers = {}
        for method in service.descriptor.methods:
            self._names[f"/{name}/{method.name}"] = (name, method.name)
            handlers[method.name] = self._handler(service, method)
        return handlers

    def refusal(self, path: str, error: ServingError) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return a handler that refuses a call of any kind before anything of its request is read."""

        async def reject(call: Call, context: Context) -> None:
            raise error

        return self._bordered(*self._names.get(path, _UNKNOWN), reject)

    def _handler(self, service: Service, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        parse = message_factory.GetMessageClass(method.input_type).FromString
        behaviour = getattr(service.servicer, method.name)
        limit = partial(service.limit, method.name)
        enter = nullcontext if method.name in service.health else self._gate.enter
        reply = self._stream if inspect.isasyncgenfunction(behaviour) else self._answer

        async def answer(call: Call, context: Context) -> None:
            request = await self._receiver.receive(context, parse, call.owner, limit())
            with enter(), self._receiver.door.inside(call.owner):
                call.run()
                await reply(behaviour(request, call), context)

        async def converse(call: Call, context: Context) -> None:
            call.run()
            await self._stream(behaviour(self._receiver.receive_all(context, parse, call.owner), call), context)

        run = converse if method.client_streaming else answer
        return self._bordered(method.containing_service.full_name, method.name, run)

    def _bordered(self, service: str, method: str, run: Run) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return a handler that accounts for a call while it runs, and ends it with the status of its error."""

        async def handle(_: object, context: Context) -> None:
            headers = context.invocation_metadata() or ()
            call = _begin(service, method, context, headers)
            try:
                with accounted(call, self._metrics, headers), self._callers.calling(call.peer):
                    await run(call, context)
                context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
            except ReaderStalled:
                hang_up()
            except ServingError as error:
                refuse(context, error, (REQUEST_ID, call.request_id))

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _answer(self, reply: Awaitable[message.Message], context: Context) -> None:
        await self._sender.send(context, (await reply).SerializeToString())

    async def _stream(self, replies: AsyncGenerator[Reply, None], context: Context) -> None:
        async with aclosing(replies):
            async for reply in replies:
                await self._sender.send(context, reply if isinstance(reply, bytes) else reply.SerializeToString())


def may_use(model: str) -> bool:
    """Tell whether the caller of this call may use a model."""
    return token_rights.get().may_use(model)


def _begin(service: str, method: str, context: Context, headers: Headers) -> Call:
    remaining_s = context.time_remaining()
    sent = sent_id(headers)
    return Call(
        method,
        deadline=float("inf") if remaining_s is None else time.monotonic() + remaining_s,
        protocol="grpc",
        service=service,
        caller=token_name.get(),
        rights=token_rights.get(),
        peer=context.peer(),
        request_id=sent or new_id(),
        id_was_sent=bool(sent),
    )
