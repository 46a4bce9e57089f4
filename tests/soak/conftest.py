"""Real `progan serve` processes whose device takes a known time, for tests that take minutes."""

import asyncio
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import sleeper
from prometheus_client.parser import text_string_to_metric_families

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


class Served:
    """A ready `progan serve` on a port of one's choice, and what it tells of itself."""

    def __init__(self, store: Path, port: int, *options: str) -> None:
        self.target = f"127.0.0.1:{port}"
        command = [PROGAN, "serve", "--store", store, "--port", str(port), "--http-port", "0", *options]
        self._process = subprocess.Popen(
            [*command, "--no-log-requests", "--log-format", "text"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        lines = iter(self._process.stdout.readline, "")
        found = next(found for line in lines if (found := re.search(r"HTTP ([0-9.:]+)", line)))
        self._url = f"http://{found[1]}/metrics"
        self.http_port = int(found[1].rpartition(":")[2])
        next(line for line in lines if line.startswith("ready: "))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        with urllib.request.urlopen(self._url, timeout=PATIENCE_S) as page:
            families = text_string_to_metric_families(page.read().decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def resident_mb(self) -> float:
        return self.metric("process_resident_memory_bytes") / 1e6

    def health(self) -> tuple[str, str]:
        """Of the process and of the service."""
        with Client(self.target) as client, urllib.request.urlopen(self._url.replace("metrics", "livez")) as live:
            return live.read().decode().strip(), client.health()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(store, "--max-batch-size", "4")` starts a server and waits until it is ready; all end with the test."""
    servers: list[Served] = []

    def start(store: Path, *options: str, port: int = 0) -> Served:
        servers.append(Served(store, port or free_port(), *options))
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
