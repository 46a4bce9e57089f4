"""The HTTP port: a thread with an event loop of its own, which answers pages itself and passes on calls."""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import web

from progan_service.serving.access.certificates import Certificates
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.http.connections import REPLY_S, REQUEST_S, Connection, Connections, as_response
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.guard import Guard
from progan_service.serving.http.playground import START
from progan_service.serving.http.probes import Pages, Reply, as_json
from progan_service.serving.http.routes import Found, Route, find
from progan_service.serving.listen import cannot_listen

log = logging.getLogger(__name__)

_LAST_REPLIES_S = 1  # how long replies may take at the end
_WAITING = 1024  # connections that the system holds until they are accepted, up to its own net.core.somaxconn
_AGAIN_S = 1  # after which connections are accepted again when no descriptor was left for one


class HttpServer:
    """Answers in a thread and an event loop of its own, so that a busy event loop does not look like a dead process.

    Pages are answered there; they hold no lock. Calls cross to the event loop of the calls, see border.py. `start` and
    `stop` may be called by any one thread; `stop` waits for the HTTP thread.
    """

    def __init__(
        self,
        host: str,
        port: int,
        pages: Pages,
        max_connections: int,
        *,
        routes: Sequence[Route] = (),
        guard: Guard | None = None,
        certificates: Reloadable[Certificates] | None = None,
        stall_s: float = 60.0,
    ) -> None:
        """Raise ListenError if the port cannot be opened."""
        self._pages = pages
        self._max_connections = max_connections
        self._routes = routes
        self._guard = guard or Guard(only_local=False)
        self._tls = _tls(certificates) if certificates else None
        self._stall_s = stall_s
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
        server = web.Server(self._answer, handler_cancellation=True)
        self._connections = Connections(server, self._max_connections, self._tls)
        accepting = asyncio.create_task(self._accept())
        self._started.set()
        await self._stopping.wait()
        accepting.cancel()
        await asyncio.wait({accepting})
        self._socket.close()
        await self._connections.close(_LAST_REPLIES_S)

    async def _accept(self) -> None:
        opening = set[asyncio.Task[None]]()
        while True:
            try:
                accepted, _ = await self._loop.sock_accept(self._socket)
            except ConnectionError:
                continue
            except OSError as error:
                log.warning("no connection can be accepted over HTTP: %s", error.strerror)
                await asyncio.sleep(_AGAIN_S)
                continue
            task = asyncio.create_task(self._connections.open(accepted))
            opening.add(task)
            task.add_done_callback(opening.discard)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.limit(REPLY_S)
        with suppress(ConnectionError):  # a caller that has left is no fault
            response = await self._answered(request)
            connection.limit(REQUEST_S)
            return response
        return web.Response()

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        found = self._reply(request)
        if isinstance(found, Found):
            exchange = Exchange(request, found.words, self._stall_s)
            await found.answer(exchange)
            return exchange.response
        response = as_response(found)
        await response.prepare(request)
        await response.write_eof()
        return response

    def _reply(self, request: web.BaseRequest) -> Reply | Found:
        if problem := self._guard.problem(request.headers):
            return as_json(403, {"error": problem})
        path, accept = request.rel_url.raw_path, request.headers.get("Accept", "")
        if path == "/" and "text/html" in accept and START in self._pages:
            path = START
        if page := self._pages.get(path):
            return page(accept) if request.method in ("GET", "HEAD") else _not_allowed(["GET"])
        found = find(self._routes, request.method, path)
        if isinstance(found, Found):
            return found
        return _not_allowed(found) if found else as_json(404, {"error": "there is nothing at this path"})


def _not_allowed(methods: list[str]) -> Reply:
    allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
    return as_json(405, {"error": f"this path is answered for {allowed} only"}, {"Allow": allowed})


def _tls(certificates: Reloadable[Certificates]) -> ssl.SSLContext:
    """Return the server's side of TLS. Each handshake uses the latest certificates."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def take_latest(handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        handshake.context = certificates.value.server

    tls.sni_callback = take_latest  # it is called without a name, too
    return tls


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. A restart need not wait for old connections to time out."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_WAITING)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise cannot_listen("HTTP", host, port, "--http-port", error) from error
    return listening
