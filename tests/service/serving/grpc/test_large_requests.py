"""Requests that are far too large, or never end: what they cost the server, and the others that it serves.

The server is a process of its own, without a garbage collector: what a refused call leaves behind is seen.
"""

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.config import ServerConfig
from progan_service.serving.grpc import receiving

SERVICE = "progan.v1.ImageGeneratorService"
PATIENCE_S = 120

Server = Any  # a ServerProcess, see conftest.py


@pytest.fixture(scope="module")
def server(puppet_store: Path, serve_process: Callable[..., Server]) -> Server:
    return serve_process(puppet_store, "puppet")


def send(server: Server, rpc: str, data: bytes) -> Any:
    """A call under way."""
    return server.channel.unary_stream(f"/{SERVICE}/{rpc}")(data, timeout=PATIENCE_S)


def refuse(server: Server, rpc: str, data: bytes) -> str:
    """The code and text of its refusal."""
    with pytest.raises(grpc.RpcError) as refused:
        list(send(server, rpc, data))
    call: Any = refused.value
    return f"{call.code().name} {call.details()}"


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def seeds(count: int) -> bytes:
    """A request with so many seeds of one byte."""
    return field(2, field(2, field(1, b"\1" * count)))


def vectors(rows: int, of: float = 1.0) -> bytes:
    """A request with so many latents of 4 numbers."""
    latents = pb.FloatMatrix(rows=rows, columns=4, values=np.full((rows, 4), of, "<f4").tobytes())
    return pb.GenerateRequest(latents=pb.Latents(vectors=latents)).SerializeToString()


def labels(rows: int) -> bytes:
    one = pb.Latents(seed_range=pb.SeedRange(count=1))
    matrix = pb.FloatMatrix(rows=rows, columns=1, values=bytes(4 * rows))
    return pb.GenerateRequest(latents=one, labels=matrix).SerializeToString()


HOSTILE = {
    "seeds": ("Generate", seeds(62_000_000)),
    "seeds of a stream": ("StreamGenerate", seeds(62_000_000)),
    "vectors": ("Generate", vectors(3_800_000)),
    "key frames": ("Interpolate", vectors(3_800_000)),
    "labels": ("Generate", labels(15_000_000)),
    "a field that nobody knows": ("ListModels", field(99, bytes(62_000_000))),
    "empty fields": ("Generate", field(2, b"") * 31_000_000),
}


def test_requests_of_62_megabytes_leave_no_memory_and_delay_nobody(server: Server) -> None:
    before_mb = server.resident_mb()
    for rpc, data in HOSTILE.values():
        calls = [send(server, rpc, data) for _ in range(3)]
        while not all(call.done() for call in calls):
            assert server.health_s() < 1.5  # about 5 ms where the machine does nothing else
        refused = f"Received message larger than max ({len(data)} vs. 4194304)"
        assert all(refused in call.details() for call in calls)
    assert server.resident_mb() < before_mb + 200


@pytest.mark.parametrize(
    ("rpc", "data", "text"),
    [
        ("StreamGenerate", seeds(4_000_000), "latents.seeds.seeds: lists 4000000 seeds; at most 1000000 are read"),
        ("StreamGenerate", vectors(250_000, of=0), "latents.vectors: row 0 is all zero"),
        ("Generate", seeds(4_000_000), "request: has 4000015 bytes; this rpc takes at most 83456"),
        ("Interpolate", vectors(200_000), "request: has 3200021 bytes; this rpc takes at most 83456"),
        ("GetModel", field(99, bytes(5_000)), "request: has 5004 bytes; this rpc takes at most 4096"),
    ],
    ids=["seeds", "vectors", "seeds for one reply", "key frames", "a field that nobody knows"],
)
def test_ten_requests_of_the_largest_size_leave_no_memory(server: Server, rpc: str, data: bytes, text: str) -> None:
    refuse(server, rpc, data)  # memory that is used once is used again
    before_mb = server.resident_mb()
    for _ in range(10):
        assert refuse(server, rpc, data).startswith(f"INVALID_ARGUMENT {text}")
    assert server.resident_mb() < before_mb + 30


def test_health_takes_names_and_nothing_larger(server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Check(health_pb2.HealthCheckRequest(service="x" * 10_000), timeout=PATIENCE_S)
    call: Any = refused.value
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert call.details() == "request: has 10003 bytes; this rpc takes at most 4096"
    [status] = [value for key, value in call.trailing_metadata() if key == "grpc-status-details-bin"]
    assert b"google.rpc.ErrorInfo" in status


# --- requests that do not end ---

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_HEADERS = 4
WINDOW = 65_535  # bytes that a caller may send on a stream before the server asks for more


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """One that is new and not to be remembered, in plain letters (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def begin_requests(peer: socket.socket, path: str, count: int) -> None:
    """Begin so many calls, each with the first bytes of a request of 4 MB."""
    said = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"here")]
    said += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    fields = b"".join(header(*pair) for pair in said)
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0))
    for stream in range(1, 2 * count, 2):
        peer.sendall(frame(HEADERS, END_HEADERS, stream, fields))
        peer.sendall(frame(DATA, 0, stream, b"\0" + struct.pack(">I", 4_000_000) + bytes(100)))


def asked_for(peer: socket.socket, at_least: int) -> dict[int, int]:
    """The bytes that the server asks for, by stream: once it asks on so many streams, and for a second more."""
    asked: dict[int, int] = {}
    came, give_up = b"", time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        try:
            came += peer.recv(65536)
        except TimeoutError:
            continue
        while len(came) >= 9 and len(came) >= (end := 9 + int.from_bytes(came[:3], "big")):
            kind, stream = came[3], int.from_bytes(came[5:9], "big")
            if kind == WINDOW_UPDATE and stream:
                asked[stream] = asked.get(stream, 0) + int.from_bytes(came[9:13], "big")
            came = came[end:]
        if len(asked) >= at_least:
            give_up = min(give_up, time.monotonic() + 1)
    return asked


@pytest.mark.parametrize("path", [f"/{SERVICE}/StreamGenerate", "/grpc.health.v1.Health/Check"])
def test_of_a_hundred_unfinished_requests_of_a_connection_32_are_received(server: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.1) as peer:
        begin_requests(peer, path, 100)
        asked = asked_for(peer, at_least=32)
        assert len([stream for stream, more in asked.items() if more > WINDOW]) == 32
        assert server.health_s() < 1.5


def test_unfinished_requests_of_strangers_keep_no_place_from_others(server: Server) -> None:
    strangers = [socket.create_connection(("127.0.0.1", server.port), timeout=0.1) for _ in range(4)]
    try:
        for peer in strangers:
            begin_requests(peer, "/grpc.health.v1.Health/Check", 32)
        assert all(asked_for(peer, at_least=1) for peer in strangers)
        assert server.health_s() < 10
    finally:
        for peer in strangers:
            peer.close()


async def test_a_request_that_does_not_come_is_refused(
    puppet_store: Path, run_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_PATIENCE_S", 0.2)
    with run_server(ServerConfig(puppet_store, model="puppet", port=0, http_port=0, lame_duck_s=0)) as host:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            call = channel.stream_stream(f"/{SERVICE}/Generate")(timeout=PATIENCE_S)
            assert (await call.code(), await call.details()) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "request: did not arrive within 0.2 s",
            )
