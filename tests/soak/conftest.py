"""Real `progan serve` processes whose device takes a known time, for tests that take minutes."""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import sleeper
from served import Served

from progan_client import Client

PROGAN = Path(sys.executable).with_name("progan")
PATIENCE_S = 120

Publish = Callable[..., Path]
OpenLoop = Callable[[float, float, Callable[[], Awaitable[None]]], Awaitable[None]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.soak)


class ReadyServer(Served):
    """A ready `progan serve` on a port of one's choice."""

    def __init__(self, store: Path, port: int, *options: str) -> None:
        super().__init__("--store", store, "--port", port, "--no-log-requests", *options)
        self.line("ready: ")

    def healths(self) -> tuple[str, str]:
        """Of the process and of the service."""
        with Client(self.target) as client:
            return self.page("/livez").strip(), client.health()


Serve = Callable[..., ReadyServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(store, "--max-batch-size", "4")` starts a server and waits until it is ready; all end with the test."""
    servers: list[ReadyServer] = []

    def start(store: Path, *options: str, port: int = 0) -> ReadyServer:
        servers.append(ReadyServer(store, port or free_port(), *options))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def publish_sleeper(tmp_path_factory: pytest.TempPathFactory) -> Publish:
    """A store with a model that takes `batch_s` for a batch of any size, without a processor, and draws grey."""

    def publish(batch_s: float, resolution: int = 4) -> Path:
        root = tmp_path_factory.mktemp("sleeper")
        sleeper.publish_sleeper(root, batch_s, resolution)
        return root

    return publish


@pytest.fixture
def open_loop() -> OpenLoop:
    """`await open_loop(rate, seconds, ask)`: calls fall due evenly, whatever becomes of those before."""

    async def run(rate: float, seconds: float, ask: Callable[[], Awaitable[None]]) -> None:
        start, calls = time.monotonic(), set[asyncio.Task[None]]()
        for number in range(int(rate * seconds)):
            if (early_s := start + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            call = asyncio.ensure_future(ask())
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)

    return run
