"""A `progan serve` in a process of its own, its log, and what it tells of itself."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

PROGAN = Path(sys.executable).with_name("progan")
PATIENCE_S = 120

Line = dict[str, Any]


class Served:
    """It listens on free ports, and logs JSON.

    program   what takes the place of the command `progan`
    """

    def __init__(self, *options: object, program: Sequence[object] = (PROGAN,), stderr: int | None = None) -> None:
        standard = ("serve", "--port", "0", "--http-port", "0", "--lame-duck-s", "0", "--log-format", "json")
        command = list(map(str, [*program, *standard, *options]))
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        self.lines: list[Line] = []
        self._more = threading.Condition()
        self._told = 0  # lines that `line` has gone past
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        listening = self.line("listening: ")
        self.port, self.http_port = listening["port"], listening["http_port"]
        self.target = f"127.0.0.1:{self.port}"
        self.channel = self.connect()
        self.stub = pb_grpc.ImageGeneratorServiceStub(self.channel)

    def _read(self) -> None:
        assert self.process.stdout
        for text in self.process.stdout:
            with self._more:
                self.lines.append(json.loads(text))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def line(self, *starts: str) -> Line:
        """Return the line with which the log has, behind those returned before, one that starts like each of these."""
        missing, give_up = set(starts), time.monotonic() + PATIENCE_S
        with self._more:
            while True:
                for line in self.lines[self._told :]:
                    self._told += 1
                    missing = {start for start in missing if not line["message"].startswith(start)}
                    if not missing:
                        return line
                waits = self._reader.is_alive() and time.monotonic() < give_up
                assert waits, f"the server has not written {missing}; it wrote {self.lines}"
                self._more.wait(1)

    def connect(self) -> grpc.Channel:
        """Return a connection of one's own, which sends and takes messages of any size."""
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        return grpc.insecure_channel(self.target, [*options, ("grpc.use_local_subchannel_pool", 1)])

    def health(self, service: str = "") -> str:
        with self.connect() as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=service)
            status = stub.Check(request, timeout=PATIENCE_S, wait_for_ready=True).status
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=PATIENCE_S) as page:
            return str(page.read().decode())

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name that have these labels."""
        families = text_string_to_metric_families(self.page("/metrics"))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096 / 1e6

    def stop(self) -> int:
        """Return its exit code after a SIGTERM."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


@contextmanager
def served(*options: object, program: Sequence[object] = (PROGAN,), stderr: int | None = None) -> Iterator[Served]:
    """A server that listens within the block."""
    server = Served(*options, program=program, stderr=stderr)
    try:
        yield server
    finally:
        server.end()
