"""Three ways in which a call may be written over HTTP: Connect's for one reply and for a stream, and gRPC-Web's."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from google.rpc import code_pb2

from progan_service.serving.errors import ServingError
from progan_service.serving.http.connect.codecs import Binary, Codec, Json
from progan_service.serving.http.connect.framing import frame, from_text, only_message
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.json_pieces import in_base64
from progan_service.serving.http.probes import JSON
from progan_service.serving.http.status import error_headers, http_status
from progan_service.serving.protocols.status import status_of

_BINARY, _JSON = Binary(), Json()
_END_OF_STREAM = 2
_TRAILERS = 0x80


class Style(Protocol):
    """How requests and replies of a content type are written."""

    @property
    def codec(self) -> Codec: ...

    @property
    def streams(self) -> bool | None:
        """Whether it is for rpcs that reply with a stream, for others, or for both (None)."""
        ...

    def message(self, body: bytes) -> bytes:
        """Return the bytes of the message. Raise InvalidArgument or Unsupported."""
        ...

    async def answer(self, exchange: Exchange, replies: AsyncIterator[bytes]) -> None:
        """Send the replies. What they raise passes."""
        ...

    async def refuse(self, exchange: Exchange, error: ServingError) -> None:
        """Send the error, after the replies that have been sent."""
        ...


@dataclass(frozen=True)
class Unary:
    """Connect: the body is the message. An error is a status and JSON."""

    codec: Codec
    streams: bool | None = False

    def message(self, body: bytes) -> bytes:
        return body

    async def answer(self, exchange: Exchange, replies: AsyncIterator[bytes]) -> None:
        async for reply in replies:
            await exchange.answer(200, {"Content-Type": f"application/{self.codec.name}"}, reply)

    async def refuse(self, exchange: Exchange, error: ServingError) -> None:
        headers = {"Content-Type": JSON, **error_headers(error)}
        await exchange.answer(http_status(error), headers, json.dumps(_as_json(error)).encode())


@dataclass(frozen=True)
class Stream:
    """Connect: messages in frames, and a last frame that says how it ended."""

    codec: Codec
    streams: bool | None = True

    def message(self, body: bytes) -> bytes:
        return only_message(body)

    async def answer(self, exchange: Exchange, replies: AsyncIterator[bytes]) -> None:
        async for reply in replies:
            await self._begin(exchange)
            await exchange.send(frame(reply))
        await self._end(exchange, {})

    async def refuse(self, exchange: Exchange, error: ServingError) -> None:
        await self._end(exchange, {"error": _as_json(error)})

    async def _begin(self, exchange: Exchange) -> None:
        if not exchange.begun:
            await exchange.begin(200, {"Content-Type": f"application/connect+{self.codec.name}"})

    async def _end(self, exchange: Exchange, how: dict[str, Any]) -> None:
        await self._begin(exchange)
        await exchange.send(frame(json.dumps(how).encode(), _END_OF_STREAM))
        await exchange.end()


@dataclass(frozen=True)
class GrpcWeb:
    """gRPC-Web: messages in frames, and a last frame with gRPC's trailers. As text each frame is base64."""

    text: bool
    codec: Codec = _BINARY
    streams: bool | None = None

    def message(self, body: bytes) -> bytes:
        return only_message(from_text(body) if self.text else body)

    async def answer(self, exchange: Exchange, replies: AsyncIterator[bytes]) -> None:
        async for reply in replies:
            await self._send(exchange, frame(reply))
        await self._end(exchange, [("grpc-status", "0")])

    async def refuse(self, exchange: Exchange, error: ServingError) -> None:
        status = status_of(error)
        details = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
        message = quote(status.message, safe=" !#$&'()*+,/:;<=>?@[]^_`{|}~\"")
        trailers = [("grpc-status", str(status.code)), ("grpc-message", message), ("grpc-status-details-bin", details)]
        await self._end(exchange, trailers)

    async def _send(self, exchange: Exchange, part: bytes) -> None:
        if not exchange.begun:
            await exchange.begin(200, {"Content-Type": f"application/grpc-web{'-text' if self.text else ''}+proto"})
        await exchange.send_all(in_base64(part) if self.text else [part])

    async def _end(self, exchange: Exchange, trailers: list[tuple[str, str]]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
        await self._send(exchange, frame(lines.encode(), _TRAILERS))
        await exchange.end()


STYLES: dict[str, Style] = {
    "application/json": Unary(_JSON),
    "application/proto": Unary(_BINARY),
    "application/connect+json": Stream(_JSON),
    "application/connect+proto": Stream(_BINARY),
    "application/grpc-web": GrpcWeb(text=False),
    "application/grpc-web+proto": GrpcWeb(text=False),
    "application/grpc-web-text": GrpcWeb(text=True),
    "application/grpc-web-text+proto": GrpcWeb(text=True),
}  # by content type


def _as_json(error: ServingError) -> dict[str, Any]:
    """Return an error in Connect's words."""
    status = status_of(error)
    details = [
        {"type": detail.TypeName(), "value": base64.b64encode(detail.value).decode().rstrip("=")}
        for detail in status.details
    ]
    code = code_pb2.Code.Name(status.code).lower().replace("cancelled", "canceled")
    return {"code": code, "message": status.message, "details": details}
