"""Connections of the HTTP port: how many there may be, and how long each may take."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from progan_service.serving.http.probes import Reply

REQUEST_S = 20  # time limit for a whole request head, from the opening of the connection or from the reply before it
REPLY_S = 10  # time limit for the caller to take a reply

_NOT_HTTP = Reply(400, b"this is no HTTP request\n")
_FAULT = Reply(500, b"a fault of the server; its log has it\n")


class Connections:
    """Makes connections. When there are too many, the oldest is cut off, so that a probe always gets in.

    Used in the event loop of the HTTP port only; any thread may ask for their number.
    """

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most
        self._open: dict[Connection, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> "Connection":
        return Connection(self._server, self)

    def add(self, connection: "Connection") -> None:
        self._open[connection] = None
        if len(self._open) > self._most:
            next(iter(self._open)).cut()

    def remove(self, connection: "Connection") -> None:
        self._open.pop(connection, None)

    async def close(self, grace_s: float) -> None:
        """Close all connections; replies that are under way may take `grace_s` to arrive."""
        await self._server.shutdown(grace_s)
        for connection in list(self._open):
            connection.cut()


class Connection(web.RequestHandler):
    """One connection, which is cut off at the end of its time limit. aiohttp itself has none for a request's head."""

    def __init__(self, server: web.Server, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # the type leaves out that None stands for no log
            lingering_time=0,
            auto_decompress=False,
        )
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._abort = transport.abort
        self._end = self._loop.call_later(REQUEST_S, self.cut)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end.cancel()
        self._connections.remove(self)
        super().connection_lost(exc)

    def limit(self, seconds: float) -> None:
        """Replace the time limit by one that begins now."""
        self._end.cancel()
        self._end = self._loop.call_later(seconds, self.cut)

    def cut(self) -> None:
        """Close at once, and drop what was not sent."""
        self._end.cancel()
        self._connections.remove(self)
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
    headers = {"Content-Type": reply.content_type, "Server": "progan"}
    if reply.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET, HEAD"
    return web.Response(status=reply.status, body=reply.body, headers=headers)
