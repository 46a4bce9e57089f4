"""The HTTP port: a thread with an event loop of its own that answers paths from a table."""

import asyncio
import socket
import threading
from contextlib import suppress

from aiohttp import web

from progan_service.serving.http.connections import REPLY_S, REQUEST_S, Connection, Connections, as_response
from progan_service.serving.http.probes import Pages, Reply
from progan_service.serving.listen import cannot_listen

_LAST_REPLIES_S = 1  # how long replies may take at the end
_ACCEPTED_AT_ONCE = 16
_WAITING = 1024  # connections that the system holds until they are accepted, up to its own net.core.somaxconn

_NOT_FOUND = Reply(404, b"not here; there are /metrics, /livez and /readyz\n")
_NOT_ALLOWED = Reply(405, b"only GET and HEAD are answered here\n")


class HttpServer:
    """Answers in a thread and an event loop of its own, so that a busy event loop does not look like a dead process.

    The thread shares nothing with others but the pages, which hold no lock. `start` and `stop` may be called by any one
    thread; `stop` waits for the HTTP thread.
    """

    def __init__(self, host: str, port: int, pages: Pages, max_connections: int) -> None:
        """Raise ListenError if the port cannot be opened."""
        self._pages = pages
        self._max_connections = max_connections
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        with suppress(RuntimeError):  # its loop has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def open_connections(self) -> int:
        return len(self._connections)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._connections = Connections(web.Server(self._answer), self._max_connections)
        listening = await self._loop.create_server(self._connections, sock=self._socket, backlog=_ACCEPTED_AT_ONCE)
        self._socket.listen(_WAITING)
        self._started.set()
        await self._stopping.wait()
        listening.close()
        await self._connections.close(_LAST_REPLIES_S)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.limit(REPLY_S)
        response = as_response(self._reply(request))
        with suppress(ConnectionError):  # a caller that has left is no fault
            await response.prepare(request)
            await response.write_eof()
            connection.limit(REQUEST_S)
        return response

    def _reply(self, request: web.BaseRequest) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return _NOT_ALLOWED
        page = self._pages.get(request.path)
        return page() if page else _NOT_FOUND


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. A restart need not wait for old connections to time out."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_WAITING)
    except OSError as error:
        listening.close()
        raise cannot_listen("HTTP", host, port, "--http-port", error) from error
    return listening
