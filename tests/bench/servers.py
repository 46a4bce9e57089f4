"""Servers in processes of their own, and the CPU time and memory that they use."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from progan_client import Client
from progan_service.store.bundled import BUNDLED_STORE

PATIENCE_S = 120
POLL_S = 0.01


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
def progan(store: Path = BUNDLED_STORE) -> Iterator[Server]:
    """Start `progan serve` with default settings but free ports, and wait until all its models are ready."""
    command = Path(sys.executable).with_name("progan")
    options = ("--store", store, "--port", "0", "--http-port", "0", "--lame-duck-s", "0")
    with running(command, "serve", *options) as server:
        with Client(server.target) as client:
            client.wait_until_ready(PATIENCE_S)
            while any(model.serving_version is None for model in client.models()):
                time.sleep(POLL_S)
        yield server


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
def running(*command: str | Path) -> Iterator[Server]:
    """Start a server, whose log goes to a file, and return its address."""
    with tempfile.NamedTemporaryFile() as log, subprocess.Popen(command, stdout=log) as process:
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
