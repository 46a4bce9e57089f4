"""Callers who hold connections, against a real server in a process that may open few files."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from served import PROGAN, Served, served

from progan_service.serving.listen import ListenError, Share, share

PATIENCE_S = 120
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # the preface and empty settings


def limited(store: Path, files: int, *options: str) -> AbstractContextManager[Served]:
    """A `progan serve` without models, which may open `files` files."""
    program = ["sh", "-c", f'ulimit -n {files} && exec "$0" "$@"', PROGAN]
    return served("--store", store, *options, program=program)


def test_both_ports_share_the_files_that_a_process_may_open_and_leave_some_for_the_server() -> None:
    assert share(1024, 800) == Share(grpc=800, http=96)
    assert share(256, 800) == Share(grpc=156, http=52)
    assert share(64, 800) == Share(grpc=12, http=4)
    assert share(20_000, 800) == Share(grpc=800, http=96)
    with pytest.raises(ListenError, match="this process may open 63 files, and the server needs 64; raise it: ulimit"):
        share(63, 800)


@contextmanager
def byte_by_byte(port: int, count: int) -> Iterator[None]:
    """Many callers whose requests never end: each sends a byte a second, and goes on when it has been cut off."""
    ended = threading.Event()
    with ExitStack() as stack:
        address = ("127.0.0.1", port)
        callers = [stack.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in range(count)]

        def drip() -> None:
            while not ended.wait(1):
                for caller in callers:
                    with suppress(OSError):
                        caller.send(b"a")

        for caller in callers:
            with suppress(OSError):
                caller.send(b"GET /livez HTTP/1.1\r\nslow: ")
        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            yield
        finally:
            ended.set()
            dripping.join()


def test_requests_that_never_end_take_no_more_than_their_share_of_files(tmp_path: Path) -> None:
    with limited(tmp_path, 160) as server, byte_by_byte(server.http_port, 300):
        for _ in range(3):
            assert server.page("/livez") == "alive\n"
            assert server.health() == "SERVING"
        assert server.metric("process_open_fds") < 100
        assert server.metric("progan_connections", port="http") <= 28


@contextmanager
def idle(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections of HTTP/2 without a call."""
    with ExitStack() as stack:
        callers = []
        for _ in range(count):
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            with suppress(OSError):
                caller.sendall(HELLO)
            callers.append(caller)
        yield callers


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_idle_connections_keep_no_caller_out(tmp_path: Path) -> None:
    options = ("--max-connections", "20", "--max-connection-idle-s", "86400")
    with limited(tmp_path, 256, *options) as server, idle(server.port, 40):
        for _ in range(3):
            assert server.health() == "SERVING"
        until(lambda: any("gRPC connections are open" in line["message"] for line in server.lines))
        [warning, *_] = [line for line in server.lines if "gRPC connections are open" in line["message"]]
        assert warning["level"] == "WARNING"
        assert re.fullmatch(
            r"\d+ gRPC connections are open, \d+ of them from 127\.0\.0\.1; those that .* are closed; max_connections "
            r"is 20, max_connections_per_address 0",
            warning["message"],
        )
        assert server.metric("progan_connections_closed_total", reason="room") >= 5
        assert server.metric("progan_connections_closed_total", reason="address") == 0
        assert server.metric("progan_connections", port="grpc") <= 20


def test_an_address_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    options = ("--max-connections-per-address", "4")
    with limited(tmp_path, 256, *options) as server, idle(server.port, 10):
        until(lambda: server.metric("progan_connections_closed_total", reason="address") == 6)
        until(lambda: server.metric("progan_connections", port="grpc") == 4)
        assert server.health() == "SERVING"
        assert server.metric("progan_connections_closed_total", reason="room") == 0


def test_a_connection_without_calls_is_closed_after_a_while(tmp_path: Path) -> None:
    with limited(tmp_path, 256, "--max-connection-idle-s", "1") as server, idle(server.port, 1) as [caller]:
        while caller.recv(65536):
            pass  # until the server closes it


def test_with_too_few_files_a_server_says_how_many_it_needs(tmp_path: Path) -> None:
    command = ["sh", "-c", 'ulimit -n 60 && exec "$0" "$@"', PROGAN, "serve", "--store", tmp_path]
    left = subprocess.run(
        [*command, "--log-format", "text"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert left.returncode == 1
    assert left.stderr == "progan: this process may open 60 files, and the server needs 64; raise it: ulimit -n 64\n"
