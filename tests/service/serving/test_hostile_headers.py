"""Requests that no gRPC library lets a caller send, to a real `progan serve`. The others must not notice."""

import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import PROGAN, Served, served

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

SERVICE = "progan.v1.ImageGeneratorService"
PATIENCE_S = 180

Pair = tuple[bytes, bytes]
Publish = Callable[..., int]


def is_ready(server: Served) -> bool:
    try:
        return server.page("/readyz") == "ready\n"
    except urllib.error.HTTPError as error:
        error.close()
        return False


def descriptors(server: Served) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def threads(server: Served) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@contextmanager
def serving(program: Sequence[object], store: Path) -> Iterator[Served]:
    with served("--store", store, "--max-batch-size", "4", program=program) as server:
        server.line("ready: wide")
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, publish_puppet: Publish) -> Path:
    """One model, `wide`, of 256x256."""
    root = tmp_path_factory.mktemp("wide")
    publish_puppet(root, "wide", resolution=256)
    return root


@pytest.fixture(scope="module")
def wide(store: Path) -> Iterator[Served]:
    with serving([PROGAN], store) as server:
        yield server


@contextmanager
def another_caller(server: Served) -> Iterator[list[str]]:
    """Calls on and on, over a connection of its own. The list has the code of each answer."""
    codes: list[str] = []
    over = threading.Event()

    def call() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = pb_grpc.ImageGeneratorServiceStub(channel)
            while not over.is_set():
                try:
                    stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S)
                    codes.append("OK")
                except grpc.RpcError as error:
                    codes.append(error.code().name)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        until(lambda: len(codes) > 0)
        yield codes
    finally:
        over.set()
        caller.join()


# --- frames of HTTP/2, written by hand ---

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
LIST_MODELS: list[Pair] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", f"/{SERVICE}/ListModels".encode()),
    (b":authority", b"here"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value: bytes) -> bytes:
    """As HPACK writes it, in plain bytes (RFC 7541, 5.2)."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, digits = len(value) - 127, bytearray()
    while rest >= 128:
        digits.append(rest % 128 + 128)
        rest //= 128
    return b"\x7f" + bytes([*digits, rest]) + value


def packed(headers: list[Pair]) -> bytes:
    """Headers that are new and not to be remembered (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in headers)


def with_header(name: bytes, value: bytes) -> bytes:
    """The headers of a call of ListModels, one of them replaced or added."""
    others = [pair for pair in LIST_MODELS if pair[0] != name]
    pseudo = [pair for pair in others if pair[0].startswith(b":")]
    rest = [pair for pair in others if not pair[0].startswith(b":")]
    given = [(name, value)]
    return packed([*pseudo, *given, *rest] if name.startswith(b":") else [*others, *given])


def send(port: int, *blocks: bytes) -> list[bytes]:
    """Send calls, each on a connection of its own with its block of headers. Return all that comes back, of each."""
    peers = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in blocks]
    for peer, block in zip(peers, blocks, strict=True):
        peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, block))
        peer.sendall(frame(DATA, END_STREAM, 1, bytes(5)))
    return [answer(peer) for peer in peers]


def answer(peer: socket.socket) -> bytes:
    """All that comes until the call ends."""
    came = b""
    with peer, peer.makefile("rb") as replies, suppress(ConnectionError):
        while head := replies.read(9):
            came += replies.read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == GOAWAY or (stream == 1 and (kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM))):
                break
    return came


OK_TRAILER = b"grpc-status\x010"
UNKNOWN_METHOD = b"grpc-status\x0212"


def is_answered_well(server: Served) -> bool:
    [came] = send(server.port, packed(LIST_MODELS))
    return OK_TRAILER in came


def test_a_call_by_hand_is_answered_like_any_other(wide: Served) -> None:
    assert is_answered_well(wide)


def reset_at_once(stream: int) -> bytes:
    call, cancel = packed(LIST_MODELS), (8).to_bytes(4)
    begun = frame(HEADERS, END_HEADERS, stream, call) + frame(DATA, END_STREAM, stream, bytes(5))
    return begun + frame(RST_STREAM, 0, stream, cancel)


def test_calls_that_are_reset_at_once_by_tens_of_thousands_fail_no_other_call(wide: Served) -> None:
    flood = PREFACE + frame(SETTINGS, 0, 0) + b"".join(map(reset_at_once, range(1, 20_000, 2)))
    with another_caller(wide) as codes:
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", wide.port), PATIENCE_S) as peer, suppress(ConnectionError):
                peer.sendall(flood)  # gRPC may cut the connection off
        before = len(codes)
        until(lambda: len(codes) > before + 10)
    assert set(codes) == {"OK"}
    assert is_answered_well(wide)


def begin_stream(server: Served) -> Iterator[pb.StreamGenerateResponse]:
    """80 images of 196,608 bytes: most of them are not made before somebody reads."""
    latents = pb.Latents(seed_range=pb.SeedRange(count=80))
    request = pb.StreamGenerateRequest(model=pb.ModelSelector(name="wide"), latents=latents)
    stream: Iterator[pb.StreamGenerateResponse] = server.stub.StreamGenerate(request, timeout=PATIENCE_S)
    return chain([next(stream)], stream)


def images(stream: Iterator[pb.StreamGenerateResponse]) -> int:
    return sum(part.images.count for part in stream)


def test_paths_that_are_no_utf_8_are_unknown_methods_and_no_other_caller_loses_anything(wide: Served) -> None:
    stream = begin_stream(wide)
    threads_before, descriptors_before = threads(wide), descriptors(wide)
    with another_caller(wide) as codes:
        for _ in range(25):
            [came] = send(wide.port, with_header(b":path", b"/\xff"))
            assert UNKNOWN_METHOD in came
            with (
                grpc.insecure_channel(f"127.0.0.1:{wide.port}") as channel,
                pytest.raises(grpc.RpcError, match="this server has no such method"),
            ):
                channel.unary_unary(b"/\xff")(b"", timeout=PATIENCE_S)
        before = len(codes)
        until(lambda: len(codes) > before)
    assert set(codes) == {"OK"}
    assert images(stream) == 80
    assert is_ready(wide)
    until(lambda: descriptors(wide) <= descriptors_before)
    assert threads(wide) <= threads_before + 2  # gRPC starts some of its own as it likes


NAMES = [
    *(name for name, _ in LIST_MODELS),
    b"host",
    b"user-agent",
    b"authorization",
    b"x-request-id",
    b"x-request-id-bin",
    b"traceparent",
    b"tracestate",
    b"grpc-timeout",
    b"grpc-encoding",
    b"grpc-accept-encoding",
    b"grpc-message",
    b"grpc-status",
    b"grpc-status-details-bin",
    b"grpc-previous-rpc-attempts",
    b"grpc-trace-bin",
    b"content-length",
    b"connection",
    b"x-anything",
    b"x-anything-bin",
]
VALUES = [b"", b"\xff", b"\xc3\xa9", b"caf\xe9", b"\xed\xa0\x80", b"\0", b"\x01\x02", b"\r\nx: y", b" a ", b"x" * 300]
TIMEOUTS = [b"0n", b"-1S", b"1", b"S", b"99999999H", b"999999999999999999999H", b"1.5S", b"nan", b"0x1S"]


def test_whatever_a_header_holds_the_other_callers_are_answered(wide: Served) -> None:
    blocks = [with_header(name, value) for name in NAMES for value in VALUES]
    blocks += [with_header(b"grpc-timeout", value) for value in TIMEOUTS]
    with another_caller(wide) as codes:
        send(wide.port, *blocks)
    assert set(codes) == {"OK"}
    assert is_answered_well(wide)


any_header = st.builds(with_header, st.sampled_from(NAMES) | st.binary(max_size=20), st.binary(max_size=300))


@settings(max_examples=5)
@given(blocks=st.lists(any_header | st.binary(max_size=300), min_size=20, max_size=40))
def test_any_bytes_in_place_of_headers_leave_the_server_as_it_is(wide: Served, blocks: list[bytes]) -> None:
    send(wide.port, *blocks)
    assert is_answered_well(wide)


@pytest.mark.parametrize("key", [b"authorization", b"traceparent", b"user-agent", b"x-request-id", b"x-anything"])
def test_metadata_that_is_no_text_changes_no_answer(wide: Served, key: bytes) -> None:
    values = [b"\xc3\xa9", b"caf\xe9", b"\xff\xfe", b"\x01\x02", b" a ", b"", b"x" * 126]
    assert [OK_TRAILER in came for came in send(wide.port, *(with_header(key, value) for value in values))] == [
        True
    ] * len(values)


# --- whatever else ends the loop that accepts calls ---

BREAKABLE = """
from progan_service.commands.parser import main
from progan_service.serving.grpc.accepting import AcceptingServer

request = AcceptingServer._request_registered_call

async def break_at_get_model(self, path):
    call = await request(self, path)
    if path.endswith(b"/GetModel"):
        raise RuntimeError("broken by a test")
    return call

AcceptingServer._request_registered_call = break_at_get_model
main()
"""


def test_a_server_that_no_longer_accepts_calls_is_not_ready_finishes_those_that_run_and_fails(
    store: Path,
) -> None:
    with serving([sys.executable, "-c", BREAKABLE], store) as server:
        stream = begin_stream(server)
        assert is_ready(server)
        broken = server.stub.GetModel.future(pb.GetModelRequest(name="wide"), timeout=PATIENCE_S)
        line = server.line("the gRPC port has stopped accepting calls")
        assert line["level"] == "CRITICAL"
        assert "RuntimeError('broken by a test'); start the server again" in line["message"]
        until(lambda: not is_ready(server))
        assert images(stream) == 80
        broken.cancel()
        assert server.process.wait(PATIENCE_S) == 1
