"""Calls are accepted whatever their path, and whatever ends that is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from progan_service.serving.grpc.accepting import AcceptingServer

PATIENCE_S = 60


enough = asyncio.Event()


async def echo(request: bytes, context: object) -> bytes:
    return request


async def count(request: bytes, context: object) -> AsyncIterator[bytes]:
    """Count on and on until `enough` is set."""
    while not enough.is_set():
        yield b"."
        await asyncio.sleep(0)


def refuse() -> Any:
    async def unknown(request: bytes, context: Any) -> bytes:
        return b"unknown"

    return grpc.unary_unary_rpc_method_handler(unknown)


@pytest.fixture
async def server() -> AsyncIterator[AcceptingServer]:
    """With the methods /tests/Echo and /tests/Count."""
    enough.clear()
    server = AcceptingServer((), refuse, [("grpc.so_reuseport", 0)])
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_registered_method_handlers("tests", handlers)
    yield server
    await server.shutdown(0)


@pytest.fixture
async def channel(server: AcceptingServer) -> AsyncIterator[grpc.aio.Channel]:
    port = server.add_insecure_port(b"127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def ask(channel: grpc.aio.Channel, path: str | bytes) -> bytes:
    answer: bytes = await channel.unary_unary(path)(b"hello", timeout=PATIENCE_S)  # type: ignore[arg-type]
    return answer


async def test_a_registered_path_is_answered_and_every_other_is_unknown(channel: grpc.aio.Channel) -> None:
    assert await ask(channel, "/tests/Echo") == b"hello"
    for path in (b"/\xff", b"/tests/Echo\xff", b"", b"/", b"/tests/echo", b"/tests/Nothing"):
        assert await ask(channel, path) == b"unknown"


async def test_a_shutdown_is_an_end_without_an_error(server: AcceptingServer, channel: grpc.aio.Channel) -> None:
    assert not server.end.done()
    await server.shutdown(0)
    assert await server.end is None


def main_loop() -> asyncio.Task[Any]:
    [task] = [task for task in asyncio.all_tasks() if "_server_main_loop" in str(task.get_coro())]
    return task


def accepting() -> asyncio.Task[Any]:
    return next(task for task in asyncio.all_tasks() if "AcceptingServer._accept" in str(task.get_coro()))


@pytest.mark.parametrize("task", [main_loop, accepting])
async def test_whoever_ends_it_the_cause_is_told_and_calls_that_run_go_on(
    server: AcceptingServer, channel: grpc.aio.Channel, task: Callable[[], asyncio.Task[Any]]
) -> None:
    counting = channel.unary_stream("/tests/Count")(b"", timeout=PATIENCE_S)
    parts = aiter(counting)
    assert await anext(parts) == b"."
    task().cancel()
    error = await asyncio.wait_for(server.end, PATIENCE_S)
    assert str(error) == "the gRPC port has stopped accepting calls: CancelledError(); start the server again"
    assert await anext(parts) == b"."
    enough.set()
    assert {part async for part in parts} <= {b"."}
    assert await counting.code() is grpc.StatusCode.OK
