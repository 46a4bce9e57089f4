"""The HTTP port under callers who are slow, hostile or merely old-fashioned."""

import logging
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progan_service.serving.config import ServerConfig
from progan_service.serving.http import connections
from progan_service.serving.http.probes import Pages, Reply
from progan_service.serving.http.server import HttpServer
from progan_service.serving.server import Server

PATIENCE_S = 60
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
NOTHING = b'{"error": "there is nothing at this path"}'
ONLY_GET = b'{"error": "this path is answered for GET, HEAD only"}'
PAGES: Pages = {"/livez": lambda _: Reply(200, b"alive\n")}


@contextmanager
def listening(pages: Pages = PAGES, max_connections: int = 8) -> Iterator[HttpServer]:
    server = HttpServer("127.0.0.1", 0, pages, max_connections)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connected(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def to_the_end(caller: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    came = b""
    try:
        while part := caller.recv(65536):
            came += part
    except ConnectionResetError:
        pass
    return came


def answer(server: HttpServer, request: bytes) -> tuple[str, bytes]:
    """The head, and the body, of the answer to a request after which the server closes the connection."""
    with connected(server) as caller:
        caller.sendall(request)
        head, _, body = to_the_end(caller).partition(b"\r\n\r\n")
    return head.decode(), body


def test_one_connection_takes_request_after_request() -> None:
    with listening() as server, connected(server) as caller:
        for _ in range(3):
            caller.sendall(LIVE)
            came = b""
            while not came.endswith(b"\r\n\r\nalive\n"):
                came += caller.recv(65536)
            assert came.startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.open_connections() == 1


def test_an_old_caller_is_answered_and_its_connection_closed() -> None:
    with listening() as server:
        head, body = answer(server, b"GET /livez HTTP/1.0\r\n\r\n")
    assert (head.splitlines()[0], body) == ("HTTP/1.0 200 OK", b"alive\n")


def test_head_is_get_without_the_body() -> None:
    with listening() as server:
        head, body = answer(server, b"HEAD /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert "Content-Length: 6" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        (b"GET /x HTTP/1.0\r\nAccept: text/html\r\n\r\n", "404", NOTHING),
        (b"POST /livez HTTP/1.0\r\n\r\n", "405", ONLY_GET),
        (b"DELETE /livez HTTP/1.0\r\nAccept: text/html\r\n\r\n", "405", ONLY_GET),
        (b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\nx", "405", ONLY_GET),
        (b"GET\r\n\r\n", "400", b"this is no HTTP request\n"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "400", b"this is no HTTP request\n"),  # the first bytes of TLS
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "400", b"this is no HTTP request\n"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", "400", b"this is no HTTP request\n"),
        (b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", "400", b"this is no HTTP request\n"),
        (b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400", b"this is no HTTP request\n"),
    ],
)
def test_what_cannot_be_answered_gets_a_plain_sentence_and_no_version_of_anything(
    request_: bytes, status: str, sentence: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with listening() as server:
        head, body = answer(server, request_)
    assert head.split()[1] == status
    assert body == sentence
    assert ("Content-Type: text/plain" in head) == (status == "400")
    assert [line for line in head.splitlines() if line.startswith("Server:")] == ["Server: progan"]
    assert ("Allow: GET, HEAD" in head) == (status == "405")
    assert caplog.messages == []


def test_a_page_that_fails_is_told_to_the_log_and_not_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    def failing(accept: str) -> Reply:
        raise ValueError("secret")

    with listening({"/metrics": failing}) as server:
        head, body = answer(server, b"GET /metrics HTTP/1.0\r\nAccept: text/html\r\n\r\n")
    assert (head.split()[1], body) == ("500", b"a fault of the server; its log has it\n")
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "HTTP GET /metrics failed")
    assert record.exc_info
    assert str(record.exc_info[1]) == "secret"


def test_a_head_that_comes_byte_by_byte_has_a_time_limit_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)
    with listening() as server, connected(server) as caller:
        until = time.monotonic() + PATIENCE_S
        caller.send(b"GET /livez HTTP/1.1\r\nslow: ")
        while not select.select([caller], [], [], 0.02)[0]:  # until the server closes the connection
            caller.send(b"a")
            assert time.monotonic() < until
        assert to_the_end(caller) == b""


def test_a_connection_kept_alive_and_unused_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progan_service.serving.http.server.REQUEST_S", 0.3)
    with listening() as server, connected(server) as caller:
        caller.sendall(LIVE)
        assert to_the_end(caller).endswith(b"alive\n")


def test_a_reply_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progan_service.serving.http.server.REPLY_S", 0.3)
    with listening({"/livez": lambda _: Reply(200, bytes(64 * 2**20))}) as server, connected(server) as caller:
        caller.sendall(LIVE)
        assert caller.recv(1)
        until = time.monotonic() + PATIENCE_S
        while server.open_connections():
            assert time.monotonic() < until
            time.sleep(0.02)
        assert len(to_the_end(caller)) < 64 * 2**20


def test_callers_that_leave_before_they_have_their_answers_leave_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    with listening({"/metrics": lambda _: Reply(200, bytes(16 * 2**20)), **PAGES}) as server:
        for _ in range(5):
            caller = connected(server)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
            caller.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
            assert caller.recv(1)
            caller.close()
        until = time.monotonic() + PATIENCE_S
        while server.open_connections():
            assert time.monotonic() < until
            time.sleep(0.02)
        assert answer(server, b"GET /livez HTTP/1.0\r\n\r\n")[1] == b"alive\n"
    assert caplog.messages == []


def test_whoever_holds_all_connections_keeps_no_probe_out() -> None:
    with listening(max_connections=4) as server, ExitStack() as holding:
        callers = [holding.enter_context(connected(server)) for _ in range(20)]
        for caller in callers:
            caller.send(b"G")
        for _ in range(3):
            assert answer(server, b"GET /livez HTTP/1.0\r\n\r\n")[1] == b"alive\n"
        assert server.open_connections() <= 4
        assert to_the_end(callers[0]) == b""  # the oldest went first


def test_many_requests_at_once_are_answered_in_order_and_bounded() -> None:
    paths = iter(range(10_000))
    pages: Pages = {"/livez": lambda _: Reply(200, b"<%d>" % next(paths))}
    with listening(pages) as server, connected(server) as caller:
        sending = threading.Thread(target=lambda: caller.sendall(LIVE * 999 + b"GET /livez HTTP/1.0\r\n\r\n"))
        sending.start()
        came = to_the_end(caller)
        sending.join()
    assert [int(part.split(b">")[0]) for part in came.split(b"<")[1:]] == list(range(1000))


def test_the_server_ends_while_callers_hold_on() -> None:
    with listening() as server:
        slow, idle = connected(server), connected(server)
        slow.send(b"G")
        idle.sendall(LIVE)
        assert idle.recv(65536).endswith(b"alive\n")
    assert to_the_end(slow) == to_the_end(idle) == b""
    slow.close()
    idle.close()


async def test_probes_are_answered_while_the_loop_of_grpc_is_blocked(tmp_path: Path) -> None:
    server = Server(ServerConfig(tmp_path, port=0, http_port=0, lame_duck_s=0))
    await server.start()
    for path, status in (
        ("livez", 200),
        ("readyz", 503),
        ("metrics", 200),
        ("v2/health/live", 200),
        ("", 200),
    ):  # http.client blocks this loop
        asking = HTTPConnection("127.0.0.1", server.http_port, timeout=PATIENCE_S)
        asking.request("GET", f"/{path}")
        assert asking.getresponse().status == status
        asking.close()
    await server.stop()


WORDS = b"GET|HEAD|POST| |/livez|/metrics?a|*|http://[::1|HTTP/1.1|HTTP/0.9|\r\n|\n|0\r\n\r\n"
HEADERS = b"Host: a|Upgrade: h2c|Connection: upgrade|Expect: 100-continue|Content-Length: 5|Content-Length: -1|a:"
CODINGS = b"Transfer-Encoding: chunked|Content-Encoding: gzip|" + b"a" * 9000
FRAGMENTS = st.sampled_from(b"|".join((WORDS, HEADERS, CODINGS)).split(b"|"))


@pytest.fixture(scope="module")
def long_lived() -> Iterator[HttpServer]:
    with listening(max_connections=64) as server:
        yield server


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAGMENTS | st.binary(max_size=20), max_size=20))
def test_whatever_is_sent_gets_an_answer_or_nothing_and_leaves_no_trace(
    long_lived: HttpServer, caplog: pytest.LogCaptureFixture, sent: list[bytes]
) -> None:
    with connected(long_lived) as caller:
        caller.sendall(b"".join(sent))
        caller.shutdown(socket.SHUT_WR)
        assert re.match(rb"HTTP/1\.[01] (200|400|404|405) |\Z", to_the_end(caller))
    assert answer(long_lived, b"GET /livez HTTP/1.0\r\n\r\n")[1] == b"alive\n"
    assert caplog.messages == []
