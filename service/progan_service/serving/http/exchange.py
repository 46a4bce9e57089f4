"""One request over HTTP, and how its answer leaves: the caller has to take it."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from urllib.parse import unquote

from aiohttp import web
from multidict import MultiMapping

from progan_service.serving.errors import ReaderStalled
from progan_service.serving.http.body import read_body
from progan_service.serving.http.connections import Connection
from progan_service.serving.watching.calls import REQUEST_ID

_UNIT_BYTES = 2 * 2**20  # about what a message of a stream has


class Exchange:
    """A request and its answer. Used in the event loop of the HTTP port only.

    words        the parts of the path that its route names, decoded
    request_id   goes out with the answer
    ended        whether the whole answer has left
    stalled      the error about a caller who takes nothing, once that has happened
    """

    def __init__(self, request: web.BaseRequest, words: Mapping[str, str | None], stall_s: float) -> None:
        assert isinstance(request.protocol, Connection)
        self._request = request
        self._connection = request.protocol
        self._stall_s = stall_s
        self._response: web.StreamResponse | None = None
        self.words = {name: unquote(word, errors="replace") for name, word in words.items() if word}
        self.request_id = ""
        self.ended = False
        self.stalled: ReaderStalled | None = None

    @property
    def query(self) -> MultiMapping[str]:
        return self._request.query

    def header(self, name: str) -> str:
        """Return the first value of a header of the request; '' if it is not there."""
        return self._request.headers.get(name, "")

    def all_headers(self) -> list[tuple[str, str]]:
        """Return names in lower case, and values in which each byte that is not UTF-8 is a character."""
        return [(name.lower(), _printable(value)) for name, value in self._request.headers.items()]

    def peer(self) -> str:
        """Return the address of the caller, as gRPC writes it: limits of an address hold for both ports together."""
        address, port, *_ = self._request.get_extra_info("peername") or ("", 0)
        return f"ipv6:%5B{address}%5D:{port}" if ":" in address else f"ipv4:{address}:{port}"

    def calling(self) -> AbstractContextManager[None]:
        """Keep the connection open within the block. Raise Unread if too many have a call."""
        self._connection.limit(None)
        return self._connection.connections.calling(self._connection)

    async def body(self, limit: int) -> bytes:
        """Return the body of the request. Raise InvalidArgument if it cannot be read within bounds."""
        return await read_body(self._request, limit)

    @property
    def begun(self) -> bool:
        """Whether a part of the answer has left."""
        return self._response is not None

    @property
    def response(self) -> web.StreamResponse:
        """The answer that was sent, or begun."""
        assert self._response
        return self._response

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes | Iterable[bytes]) -> None:
        """Send the whole answer. A body in parts is made as fast as the caller takes it."""
        if isinstance(body, bytes):
            self._response = web.Response(status=status, headers=self._headers(headers), body=body)
            await self._taken(self._response.prepare(self._request), 0)
            await self._taken(self._response.write_eof(), len(body))
            self.ended = True
            return
        await self.begin(status, headers)
        await self.send_all(body)
        await self.end()

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin an answer whose length is not known."""
        self._response = web.StreamResponse(status=status, headers=self._headers(headers))
        await self._taken(self._response.prepare(self._request), 0)

    async def send(self, part: bytes) -> None:
        """Return when the part has left for the caller's side. Raise ReaderStalled when that takes too long."""
        assert self._response
        await self._taken(self._response.write(part), len(part))

    async def send_all(self, parts: Iterable[bytes]) -> None:
        """Send part after part. Others are answered between two parts."""
        for part in parts:
            await self.send(part)
            await asyncio.sleep(0)

    async def end(self) -> None:
        assert self._response
        await self._taken(self._response.write_eof(), 0)
        self.ended = True

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        own = {REQUEST_ID: self.request_id} if self.request_id else {}
        return {"Server": "progan", **own, **headers}

    def cut(self) -> None:
        """Close the connection, so that nobody takes a part of an answer for the whole."""
        self._connection.cut()

    async def _taken(self, sending: object, size: int) -> None:
        limit_s = self._stall_s * max(1.0, size / _UNIT_BYTES)
        try:
            async with asyncio.timeout(limit_s):
                await sending  # type: ignore[misc]
        except TimeoutError:
            self.stalled = ReaderStalled(f"the caller did not take {size} bytes within {limit_s:.3g} s")
            raise self.stalled from None


def _printable(value: str) -> str:
    return value.encode("utf-8", "surrogateescape").decode("latin-1") if not value.isascii() else value
