"""The HTTP port: a server in threads of its own that answers paths from a table."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from progan_service.serving.http.probes import Pages, Reply
from progan_service.serving.listen import cannot_listen

_NOT_FOUND = Reply(404, b"not here; there are /metrics, /livez and /readyz\n")


class HttpServer:
    """Answers in threads of its own, so that a busy event loop does not look like a dead process.

    One thread accepts connections, and each connection has a thread. They share nothing but the pages, which hold no
    lock. `start` and `stop` may be called by any one thread; `stop` waits for the accepting thread.
    """

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        """Raise ListenError if the port cannot be opened."""

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds that a connection may stay silent

            def do_GET(self) -> None:
                page = pages.get(self.path.partition("?")[0])
                self._send(page() if page else _NOT_FOUND)

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: probes come every few seconds."""

        try:
            self._server = (_ServerV6 if ":" in host else _Server)((host, port), Handler)
        except OSError as error:
            raise cannot_listen("HTTP", host, port, "--http-port", error) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True  # a restart need not wait for old connections to time out

    def server_bind(self) -> None:
        """Bind without asking the name service, as HTTPServer does, for a name that nobody uses: that takes seconds."""
        TCPServer.server_bind(self)


class _ServerV6(_Server):
    address_family = socket.AF_INET6
