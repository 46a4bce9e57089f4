"""Servers in processes of their own, and the CPU time and memory that they use."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from results import ROOT

from progan_client import Client
from progan_client.errors import DeadlineExceededError
from progan_service.store.bundled import BUNDLED_STORE

PATIENCE_S = 600  # cuDNN tries many algorithms
LOOK_S = 5
POLL_S = 0.01
AS_IT_IS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Server:
    """A running server that listens at `target`."""

    target: str
    pid: int

    def cpu_s(self) -> float:
        """The CPU time of all threads since the start, in seconds."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def progan(store: Path = BUNDLED_STORE, *options: str, environment: Mapping[str, str] = AS_IT_IS) -> Iterator[Server]:
    """Start `progan serve` with default settings but free ports, and wait until all its models are ready.

    options       further ones of the command
    environment   variables besides those of this process
    Raises RuntimeError with the reason when a version cannot be served.
    """
    command = Path(sys.executable).with_name("progan")
    places = ("--store", store, "--port", "0", "--http-port", "0", "--lame-duck-s", "0")
    with running(command, "serve", *places, *options, environment=environment) as server:
        with Client(server.target) as client:
            wait_until_served(client)
        yield server


@contextmanager
def peer(name: str, store: Path, *options: str) -> Iterator[str]:
    """Start the batcher of another library, in the environment `.venv-NAME`, and return where it listens.

    Its options follow its script, with PORT in the place of a free port. Raises RuntimeError if it does not start.
    """
    port = free_port()
    script = Path(__file__).parent / "contenders" / f"{name}_batcher.py"
    arguments = (option.replace("PORT", str(port)) for option in options)
    command = (ROOT / f".venv-{name}" / "bin" / "python", script, *arguments)
    variables = {**os.environ, "STORE": str(store)}
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=variables, process_group=0) as process,
    ):
        try:
            wait_until_listening(process, port, Path(log.name))
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # its workers, too


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    started = time.monotonic()
    while process.poll() is None and time.monotonic() - started < PATIENCE_S:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(POLL_S)
    raise RuntimeError(f"{process.args[1]} does not listen: {log.read_text()[-2000:]}")


def wait_until_served(client: Client) -> None:
    """Return when all models are ready. Raise RuntimeError when a version fails, or none is ready in time."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE_S:
        with suppress(DeadlineExceededError):
            client.wait_until_ready(LOOK_S)
        waiting = [model for model in client.models() if model.serving_version is None]
        if not waiting:
            return
        for version in (version for model in waiting for version in model.versions):
            if version.state == "failed":
                raise RuntimeError(version.error)
        time.sleep(POLL_S)
    raise RuntimeError(f"not ready within {PATIENCE_S} s")


@contextmanager
def simplest(store: Path) -> Iterator[Server]:
    """Start a server that makes batches and does nothing else: latents and images are the bytes of its messages."""
    with running(sys.executable, Path(__file__).parent / "contenders" / "simple_batcher.py", store) as server:
        yield server


@contextmanager
def echo(reply_bytes: int) -> Iterator[Server]:
    """Start a server that answers every call with the same bytes: the cost of gRPC itself."""
    with running(sys.executable, Path(__file__).with_name("echo.py"), str(reply_bytes)) as server:
        yield server


@contextmanager
def running(*command: str | Path, environment: Mapping[str, str] = AS_IT_IS) -> Iterator[Server]:
    """Start a server, whose log goes to a file, and return its address."""
    variables = os.environ | environment
    with tempfile.NamedTemporaryFile() as log, subprocess.Popen(command, stdout=log, env=variables) as process:
        try:
            yield Server(listening(process, Path(log.name)), process.pid)
        finally:
            process.terminate()


def listening(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        if found := re.search(r"listening: gRPC ([^,]+),", log.read_text()):
            return found[1]
        time.sleep(POLL_S)
    raise RuntimeError(f"the server ended: {log.read_text()}")


def memory_mib(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process, now and at its peak, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, peak = (int(re.search(rf"{field}:\s+(\d+)", status)[1]) for field in ("VmRSS", "VmHWM"))
    return now / 1024, peak / 1024
