"""The HTTP port: /metrics for Prometheus, /livez and /readyz for probes."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


class HttpServer:
    """Answers from a thread of its own, so that a busy event loop does not look like a dead process."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        """Raises OSError when the address cannot be taken."""

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds a connection may stay silent

            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/metrics":
                        self._reply(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                    case "/livez":
                        self._reply(200, b"alive\n")
                    case "/readyz":
                        self._reply(*((200, b"ready\n") if ready() else (503, b"not ready\n")))
                    case _:
                        self._reply(404, b"not here; there are /metrics, /livez and /readyz\n")

            def _reply(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every few seconds; they are not news."""

        self._server = (_ServerV6 if ":" in host else _Server)((host, port), Handler)
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
        """HTTPServer's own asks the name service for a name that nobody uses; that may take seconds."""
        TCPServer.server_bind(self)


class _ServerV6(_Server):
    address_family = socket.AF_INET6
