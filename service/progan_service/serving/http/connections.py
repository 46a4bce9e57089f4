"""Connections of the HTTP port: how many there may be, and how long each may take."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

from aiohttp import web

from progan_service.serving.errors import Unread
from progan_service.serving.http.probes import Reply

REQUEST_S = 20  # time limit for a whole request head, from the opening of the connection or from the reply before it
REPLY_S = 10  # time limit for the caller to take a short reply
LINGER_S = 0.5  # how long the rest of a refused request is read, so that its caller sees the reply

_NOT_HTTP = Reply(400, b"this is no HTTP request\n")
_FAULT = Reply(500, b"a fault of the server; its log has it\n")

Cut = Callable[[], None]


class Connections:
    """Makes connections. When there are too many, the oldest one without a call is cut off, so that a probe gets in.

    Calls use at most five sixths of the connections, so there always is one to cut off. Used in the event loop of the
    HTTP port only; any thread may ask for their number.
    """

    def __init__(self, server: web.Server, most: int, tls: ssl.SSLContext | None) -> None:
        self._server = server
        self._most = most
        self._most_calls = max(1, most * 5 // 6)
        self._tls = tls
        self._idle: dict[object, Cut] = {}  # the oldest first
        self._calling = set["Connection"]()

    def __len__(self) -> int:
        return len(self._idle) + len(self._calling)

    async def open(self, accepted: socket.socket) -> None:
        """Serve on a socket that was accepted. With TLS, the connection counts from before its handshake."""
        self._add(accepted, lambda: _shut(accepted))
        seconds = REQUEST_S if self._tls else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._server, self, accepted), accepted, ssl=self._tls, ssl_handshake_timeout=seconds
            )
        except OSError:  # no TLS, or the caller has left
            pass
        finally:
            self._idle.pop(accepted, None)

    def opened(self, connection: "Connection", accepted: socket.socket) -> None:
        """Note that the connection takes requests; cut it off if it was to be closed meanwhile."""
        if self._idle.pop(accepted, None):
            self._add(connection, connection.cut)
        else:
            connection.cut()

    def remove(self, connection: "Connection") -> None:
        self._idle.pop(connection, None)
        self._calling.discard(connection)

    @contextmanager
    def calling(self, connection: "Connection") -> Iterator[None]:
        """Keep the connection within the block, whoever else comes. Raise Unread if too many have a call."""
        if len(self._calling) >= self._most_calls:
            raise Unread(f"{len(self._calling)} calls run over HTTP; there may be no more at a time", 1.0)
        self._idle.pop(connection, None)
        self._calling.add(connection)
        try:
            yield
        finally:
            if connection in self._calling:  # else it is closed
                self._calling.discard(connection)
                self._idle[connection] = connection.cut

    async def close(self, grace_s: float) -> None:
        """Close all connections; replies that are under way may take `grace_s` to arrive."""
        await self._server.shutdown(grace_s)
        for cut in [*self._idle.values(), *(connection.cut for connection in self._calling)]:
            cut()

    def _add(self, key: object, cut: Cut) -> None:
        self._idle[key] = cut
        if len(self) > self._most:
            oldest = next(iter(self._idle))
            self._idle.pop(oldest)()


class Connection(web.RequestHandler):
    """One connection, which is cut off at the end of its time limit. aiohttp itself has none for a request's head."""

    def __init__(self, server: web.Server, connections: Connections, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # the type leaves out that None stands for no log
            lingering_time=LINGER_S,
            auto_decompress=False,
        )
        self.connections = connections
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._abort = transport.abort
        self._end = self._loop.call_later(REQUEST_S, self.cut)
        self.connections.opened(self, self._accepted)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end.cancel()
        self.connections.remove(self)
        super().connection_lost(exc)

    def limit(self, seconds: float | None) -> None:
        """Replace the time limit by one that begins now; None: by none."""
        self._end.cancel()
        if seconds is not None:
            self._end = self._loop.call_later(seconds, self.cut)

    def cut(self) -> None:
        """Close at once, and drop what was not sent."""
        self._end.cancel()
        self.connections.remove(self)
        self._abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that do not parse, and a page that failed. Only the second is worth a trace in the log."""
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log_exception("HTTP %s %s failed", request.method, request.path, exc_info=exc)
        response = as_response(_FAULT if status == HTTPStatus.INTERNAL_SERVER_ERROR else _NOT_HTTP)
        response.force_close()
        return response


def as_response(reply: Reply) -> web.Response:
    """Return the reply as aiohttp sends it. Without a Server header of ours it would tell its version."""
    headers = {"Content-Type": reply.content_type, "Server": "progan", **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


def _shut(accepted: socket.socket) -> None:
    with suppress(OSError):
        accepted.shutdown(socket.SHUT_RDWR)
