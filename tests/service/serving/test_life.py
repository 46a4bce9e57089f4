"""The life of a real `progan serve` process, from its first line to its exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc

PROGAN = Path(sys.executable).with_name("progan")
SERVICE = "progan.v1.ImageGeneratorService"
PATIENCE_S = 120
TEXT = ("--log-format", "text")

LISTENING = re.compile(
    r"listening: gRPC 127\.0\.0\.1:(\d+), HTTP 127\.0\.0\.1:(\d+); "
    r"a page at http://127\.0\.0\.1:\2/; loading models \.\.\."
)


class Served:
    """A running `progan serve`."""

    def __init__(self, store: Path, *options: str) -> None:
        command = [PROGAN, "serve", "--store", store, "--port", "0", "--http-port", "0", *TEXT, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._give_up = threading.Timer(PATIENCE_S, self.process.kill)
        self._give_up.start()
        self.configuration = self.line()
        self.listening = self.line()
        found = LISTENING.search(self.listening)
        assert found
        self.port, self.http_port = int(found[1]), int(found[2])
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = pb_grpc.ImageGeneratorServiceStub(self.channel)

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def health(self, service: str) -> str:
        stub = health_pb2_grpc.HealthStub(self.channel)
        status = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S).status
        return health_pb2.HealthCheckResponse.ServingStatus.Name(status)

    def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as page:
            return str(page.read().decode())

    def begin_generate(self, *rows: tuple[float, ...]) -> Any:
        values = np.array(rows, "<f4")
        latents = pb.FloatMatrix(rows=len(rows), columns=values.shape[1], values=values.tobytes())
        request = pb.GenerateRequest(latents=pb.Latents(vectors=latents), model=pb.ModelSelector(name="puppet"))
        return self.stub.Generate.future(request, timeout=PATIENCE_S)

    def end(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.communicate()
        self._give_up.cancel()


@contextmanager
def served(store: Path, *options: str) -> Iterator[Served]:
    """A server that listens."""
    server = Served(store, *options)
    try:
        yield server
    finally:
        server.end()


def test_a_server_gets_ready_and_a_sigterm_finishes_its_calls_before_it_ends_well(
    puppet_store: Path, hold: Path
) -> None:
    with served(puppet_store, "--model", "puppet", "--lame-duck-s", "0.2") as server:
        assert server.health("") == "SERVING"
        lines = [server.line()]
        while sum(line.startswith("ready: ") for line in lines) < 3:
            lines.append(server.line())
        assert sum("model puppet version 3 cannot be served: " in line for line in lines) == 1
        assert {line.partition(",")[0] for line in lines if line.startswith("ready: ")} == {
            "ready: labelled version 1",
            "ready: puppet version 2",
            "ready: wide version 1",
        }
        running = server.begin_generate((0, 0, 99, 0))
        while "progan_batch_rows_count 1.0" not in server.metrics():  # then it is on the device, and waits for the file
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "shutting down: 0.2 s of lame duck, then up to 20 s of draining"
        hold.unlink()
        assert running.result().images.count == 1
        assert server.process.wait(PATIENCE_S) == 0
        assert server.process.stderr
        assert server.process.stderr.read() == ""


def test_in_text_people_read_what_is_set_and_where_it_listens(tmp_path: Path) -> None:
    with served(tmp_path, "--lame-duck-s", "0.5") as server:
        assert server.configuration == (
            f"configuration: store={tmp_path} (flag); port=0 (flag); http_port=0 (flag); lame_duck_s=0.5 (flag); "
            "log_format=text (flag); the rest by default"
        )
        assert LISTENING.fullmatch(server.listening)


def test_where_no_person_reads_every_line_is_an_object_of_json(puppet_store: Path) -> None:
    with served(puppet_store, "--model", "puppet", "--lame-duck-s", "0", "--log-format", "auto") as server:
        lines = [json.loads(line) for line in (server.configuration, server.listening)]
        while sum(line["message"].startswith("ready: ") for line in lines) < 3:
            lines.append(json.loads(server.line()))
        server.begin_generate((0, 0, 0, 1)).result()
        server.process.send_signal(signal.SIGTERM)
        rest, errors = server.process.communicate(timeout=PATIENCE_S)
    assert (server.process.returncode, errors) == (0, "")
    lines += [json.loads(line) for line in rest.splitlines()]
    told = [(line["level"], line["message"].split(": ")[0]) for line in lines]
    ready = max(number for number, (_, text) in enumerate(told) if text == "ready")
    assert ("ERROR", "model puppet version 3 cannot be served") in told[2:ready]
    assert told[:2] + told[ready + 1 :] == [
        ("INFO", "configuration"),
        ("INFO", "listening"),
        ("INFO", "Generate OK"),
        ("INFO", "shutting down"),
    ]
    assert lines[0]["settings"]["store"] == {"value": str(puppet_store), "from": "flag"}
    assert lines[0]["settings"]["drain_s"] == {"value": 20, "from": "default"}
    assert lines[1]["port"] == server.port
    call = lines[-2]
    assert (call["model"], call["version"], call["images"], call["format"]) == ("puppet", 2, 1, "RAW")


def test_an_empty_store_is_alive_and_not_ready_and_a_later_second_signal_ends_at_once(tmp_path: Path) -> None:
    with served(tmp_path, "--lame-duck-s", "600") as server:
        assert server.line() == f"not ready: {tmp_path} holds no model that can be served; looking every 5 s"
        assert (server.health(""), server.health(SERVICE)) == ("SERVING", "NOT_SERVING")
        server.process.send_signal(signal.SIGTERM)
        assert server.line().startswith("shutting down: 600 s of lame duck")
        time.sleep(1.1)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 1


@pytest.mark.soak
def test_a_process_that_was_stopped_for_longer_than_a_batch_may_take_has_no_hanging_device(
    puppet_store: Path, hold: Path
) -> None:
    with served(puppet_store, "--model", "puppet", "--hang-s", "60") as server:
        next(line for line in iter(server.line, "") if line.startswith("ready: puppet"))
        running = server.begin_generate((0, 0, 99, 0))
        while "progan_batch_rows_count 1.0" not in server.metrics():
            time.sleep(0.02)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(70)
        server.process.send_signal(signal.SIGCONT)
        time.sleep(5)  # the devices are looked at every second
        assert 'progan_model_ready{model="puppet"} 1.0' in server.metrics()
        hold.unlink()
        assert running.result().images.count == 1


def test_two_signals_at_once_are_one(tmp_path: Path) -> None:
    """make and timeout(1) pass on a signal that the server has had already."""
    with served(tmp_path, "--lame-duck-s", "0.5") as server:
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGTERM)
        output, errors = server.process.communicate(timeout=PATIENCE_S)
    assert (server.process.returncode, errors) == (0, "")
    assert output.count("shutting down: 0.5 s of lame duck") == 1


def test_a_hangup_drains_like_a_sigterm(tmp_path: Path) -> None:
    with served(tmp_path, "--lame-duck-s", "0") as server:
        server.process.send_signal(signal.SIGHUP)
        output, errors = server.process.communicate(timeout=PATIENCE_S)
    assert (server.process.returncode, errors) == (0, "")
    assert "shutting down: 0 s of lame duck" in output


@pytest.mark.parametrize(
    ("closed", "said"),
    [("<&- >&-", "progan: standard output is closed, so the log is lost\n"), ("<&- >&- 2>&-", "")],
)
def test_closed_standard_streams_keep_no_server_from_serving_and_ending_well(
    tmp_path: Path, closed: str, said: str
) -> None:
    host = "127.{}.{}.{}".format(*(os.getpid() + 2**16 << 8).to_bytes(5)[1:4])  # nobody else's, for known ports
    command = f'exec "$0" serve --store "$1" --host {host} --lame-duck-s 0 {closed}'
    with subprocess.Popen(["sh", "-c", command, PROGAN, tmp_path], stderr=subprocess.PIPE, text=True) as process:
        giving_up = threading.Timer(PATIENCE_S, process.kill)
        giving_up.start()
        while process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://{host}:8501/livez") as page:
                assert page.read() == b"alive\n"
                process.terminate()
                break
            time.sleep(0.05)
        _, errors = process.communicate()
        giving_up.cancel()
    assert (process.returncode, errors) == (0, said)


def test_a_missing_store_is_bad_configuration_told_in_one_sentence(tmp_path: Path) -> None:
    ended = subprocess.run(
        [PROGAN, "serve", "--store", tmp_path / "gone", *TEXT],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 78
    assert ended.stderr == f"progan: {tmp_path}/gone: no such directory; a model store is a directory of models\n"


def test_what_ends_a_server_before_it_serves_is_json_too_where_its_log_is(tmp_path: Path) -> None:
    ended = subprocess.run(
        [PROGAN, "serve", "--store", tmp_path / "gone"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 78
    line = json.loads(ended.stderr)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "CRITICAL",
        "logger": "progan",
        "message": f"{tmp_path}/gone: no such directory; a model store is a directory of models",
    }


def test_a_taken_port_is_a_failure_told_in_one_sentence(tmp_path: Path) -> None:
    with served(tmp_path, "--lame-duck-s", "0") as server:
        port = str(server.port)
        ended = subprocess.run(
            [PROGAN, "serve", "--store", tmp_path, "--port", port, "--http-port", "0", *TEXT],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert ended.returncode == 1
    last_line = ended.stderr.splitlines()[-1]  # gRPC's own note may come before
    assert last_line.startswith(
        f"progan: the gRPC port cannot be opened on 127.0.0.1:{port}: Address already in use; try another --port"
    )
