"""The rpcs of a service over HTTP, by Connect and gRPC-Web: what browsers and curl can call."""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from progan_service.serving.errors import ServingError, UnknownMethod
from progan_service.serving.http.apart import Apart
from progan_service.serving.http.border import Border, Rpc
from progan_service.serving.http.connect.styles import STYLES, Style
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.probes import JSON
from progan_service.serving.http.routes import Route
from progan_service.serving.protocols.service import Service
from progan_service.serving.watching.calls import UNKNOWN_METHOD, Call

_WIDER = 2  # by how much JSON and base64 may be longer than the message


class Connect:
    """Answers POST /SERVICE/METHOD. Used in the event loop of the HTTP port."""

    def __init__(self, service: Service, border: Border, apart: Apart, max_request_bytes: int) -> None:
        self._service = service
        self._border = border
        self._apart = apart
        self._max_bytes = max_request_bytes

    def routes(self) -> list[Route]:
        name = re.escape(self._service.descriptor.full_name)
        return [Route("POST", re.compile(f"/{name}/(?P<method>[^/]+)"), self.answer)]

    async def answer(self, exchange: Exchange) -> None:
        given = exchange.header("Content-Type").partition(";")[0].strip().lower()
        method = self._service.descriptor.methods_by_name.get(exchange.words["method"])
        style = STYLES.get(given)
        if style is None or (method and style.streams not in (None, method.server_streaming)):
            types = ", ".join(_types(method))
            body = json.dumps({"error": f"Content-Type is {given[:100]!r}; must be one of {types}"}).encode()
            await exchange.answer(415, {"Content-Type": JSON, "Accept-Post": types}, body)
            return
        replies = self._replies(exchange, method, style) if method else self._unknown(exchange)
        try:
            async with aclosing(replies):
                await style.answer(exchange, replies)
        except ServingError as error:
            if exchange.stalled:
                exchange.cut()
            elif not exchange.ended:
                await style.refuse(exchange, error)

    async def _replies(self, exchange: Exchange, method: MethodDescriptor, style: Style) -> AsyncGenerator[bytes, None]:
        takes, gives = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        limit = min(self._max_bytes, _WIDER * (self._service.limit(method.name) or self._max_bytes))

        async def read() -> Any:
            data = style.message(await exchange.body(limit))
            return await self._apart.do(lambda: style.codec.parse(data, takes), len(data))

        behaviour = getattr(self._service.servicer, method.name)
        rpc = Rpc(self._service.descriptor.full_name, method.name, behaviour)
        async with aclosing(self._border.replies(exchange, rpc, read)) as replies:
            async for reply in replies:
                size = len(reply) if isinstance(reply, bytes) else reply.ByteSize()
                data = await self._apart.do(partial(style.codec.write, reply, gives), size)
                del reply
                yield data

    def _unknown(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        async def read() -> None:
            return None

        async def refuse(request: None, call: Call) -> None:
            raise UnknownMethod

        return self._border.replies(exchange, Rpc("", UNKNOWN_METHOD, refuse), read)


def _types(method: MethodDescriptor | None) -> list[str]:
    """Return the content types that can be sent to a method."""
    streams = method.server_streaming if method else None
    return [name for name, style in STYLES.items() if streams is None or style.streams in (None, streams)]
