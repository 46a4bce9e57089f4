"""A network between client and server that can be cut."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Proxy:
    """A TCP port that leads to a server, from `open` to `close`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.received_bytes = 0  # from the server
        self.target = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def open(self) -> None:
        """Accept connections; before, they are refused."""
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections. New ones are accepted."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):  # its other end is closed already
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it, which closes it

    def close(self) -> None:
        """Refuse new connections and reset the others."""
        with suppress(OSError):  # it is closed already
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [near, far]
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(65536):
                self.received_bytes += counted and len(data)
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            each.close()


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """`proxy(target)` is a way to a server that can be cut, `proxy(target, opened=False)` one that is still closed."""
    proxies: list[Proxy] = []

    def make(target: str, *, opened: bool = True) -> Proxy:
        proxies.append(Proxy(int(target.rpartition(":")[2])))
        if opened:
            proxies[-1].open()
        return proxies[-1]

    yield make
    for each in proxies:
        each.close()
