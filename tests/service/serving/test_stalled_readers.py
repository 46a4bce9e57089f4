"""Callers that do not read what they asked for: how much waits for them, how long, and what others get meanwhile."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from progan_protos.v1 import image_generator_pb2 as pb

SERVICE = "progan.v1.ImageGeneratorService"
PATIENCE_S = 120
STALL_S = 3
IMAGE_MB = 1024 * 1024 * 3 / 1e6

Server = Any  # a ServerProcess, see conftest.py

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, RST_STREAM = 0, 1, 4, 6, 3
END_STREAM, END_HEADERS, ACK = 1, 4, 1


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, publish_puppet: Callable[..., int], serve_process: Callable[..., Server]
) -> Server:
    """With models `large`, of 1024x1024, and `small`."""
    store = tmp_path_factory.mktemp("large")
    publish_puppet(store, "small")
    publish_puppet(store, "large", resolution=1024)
    server = serve_process(store, "large", "--stall-s", str(STALL_S), "--max-batch-size", "4")
    until(lambda: server.metric("progan_model_ready") == 2)
    return server


def request(count: int, model: str = "large") -> bytes:
    latents = pb.Latents(seed_range=pb.SeedRange(count=count))
    return pb.StreamGenerateRequest(model=pb.ModelSelector(name=model), latents=latents).SerializeToString()


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """One that is new and not to be remembered, in plain letters (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call(peer: socket.socket, rpc: str, message: bytes) -> None:
    """Make a call on a connection of its own, and never allow more than the first 64 KiB of the answer."""
    said = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", f"/{SERVICE}/{rpc}".encode())]
    said += [(b":authority", b"here"), (b"te", b"trailers"), (b"content-type", b"application/grpc")]
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0))
    peer.sendall(frame(HEADERS, END_HEADERS, 1, b"".join(header(*pair) for pair in said)))
    peer.sendall(frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message))


def stay_alive(peer: socket.socket) -> None:
    """Take all that comes and answer pings, until the connection ends."""
    came = b""
    with suppress(OSError):
        while more := peer.recv(65536):
            came += more
            while len(came) >= 9 and len(came) >= (end := 9 + int.from_bytes(came[:3], "big")):
                if came[3] in (PING, SETTINGS) and not came[4] & ACK:
                    peer.sendall(frame(came[3], ACK, 0, came[9:end] if came[3] == PING else b""))
                came = came[end:]


@contextmanager
def stalled_readers(server: Server, rpc: str, message: bytes, count: int) -> Iterator[None]:
    peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
    threads = [threading.Thread(target=stay_alive, args=[peer]) for peer in peers]
    for peer, thread in zip(peers, threads, strict=True):
        call(peer, rpc, message)
        thread.start()
    try:
        yield
    finally:
        for peer in peers:
            peer.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for peer in peers:
            peer.close()


def ended(server: Server, rpc: str) -> float:
    """How many calls for images of 1024x1024 were refused, or ended for not being read."""
    codes = ("RESOURCE_EXHAUSTED", "CANCELLED")
    return sum(server.metric("progan_requests_total", method=rpc, code=code, model="large") for code in codes)


@pytest.mark.parametrize(("rpc", "images"), [("StreamGenerate", 100_000), ("Generate", 2)])
def test_of_thirty_stalled_readers_all_are_refused_or_ended_and_others_are_served(
    server: Server, rpc: str, images: int
) -> None:
    small = server.channel.unary_unary(f"/{SERVICE}/Generate")
    before_mb, served = server.resident_mb(), 0
    with stalled_readers(server, rpc, request(images), 30):
        most_mb = before_mb
        while ended(server, rpc) < 30 or server.metric("progan_unsent_bytes"):
            assert small(request(1, "small"), timeout=PATIENCE_S)
            most_mb = max(most_mb, server.resident_mb())
            served += 1
            time.sleep(0.05)
    assert served > 5
    assert server.metric("progan_stalled_readers_total") > 0
    assert most_mb < before_mb + 500  # 109 MB for each of them, where nothing bounds it
    give_up = time.monotonic() + PATIENCE_S
    while server.resident_mb() >= before_mb + 150:  # the allocator gives memory back as it is used
        assert time.monotonic() < give_up
        assert small(request(1, "small"), timeout=PATIENCE_S)


def test_a_reader_that_is_slow_but_alive_is_never_ended(server: Server) -> None:
    before = server.metric("progan_stalled_readers_total")
    replies = server.channel.unary_stream(f"/{SERVICE}/StreamGenerate")(request(12), timeout=PATIENCE_S)
    came = 0
    for reply in replies:
        came += pb.StreamGenerateResponse.FromString(reply).images.count
        time.sleep(STALL_S / 6)
    assert came == 12
    assert server.metric("progan_stalled_readers_total") == before
