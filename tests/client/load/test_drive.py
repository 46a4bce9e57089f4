"""`progan-client load`: against virtual time, a real server of the tiny model, and servers that refuse."""

import asyncio
import json
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from progan_client import StageTimes, UnavailableError
from progan_client.command.main import main
from progan_client.load.drive import drive
from progan_client.load.plan import Load
from progan_client.load.report import Answer, Report
from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.config import BatchingConfig, ServerConfig

ANSWER = Answer(1, (8, 8, 3), "tiny version 1", StageTimes(0.0, 0.001, 0.0))

Run = Callable[..., tuple[int, str, str]]
RunServer = Callable[[ServerConfig], Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `progan-client load` in an empty directory and return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(target: str, *arguments: str) -> tuple[int, str, str]:
        code = main(["load", "--target", target, *arguments])
        return (code, *capsys.readouterr())

    return run


# ------------------------------------------------------------------------------------------------------ virtual time


class SkippingSelector(selectors.SelectSelector):
    """Where others wait, time jumps."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Seconds pass in no time, and always the same way."""

    def __init__(self) -> None:
        self.selector = SkippingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def driven(load: Load, service_s: Callable[[int], float]) -> Report:
    """The report of a load on a service that answers call n after service_s(n) seconds."""
    report = Report("virtual:1", load)

    async def send(number: int) -> Answer:
        await asyncio.sleep(service_s(number))
        return ANSWER

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(drive(load, [send], report))
    return report


def stalls_once(number: int) -> float:
    """10 ms, and once a second."""
    return 1.0 if number == 5 else 0.01


def test_a_stall_delays_all_that_fell_due_meanwhile() -> None:
    """Call 5 is due at 0.5 s and takes a second; 6, due at 0.6 s, is sent at 1.5 s; call 15 is the last one late."""
    report = driven(Load(rate=10, even=True, clients=1, warmup_s=0, duration_s=2), stalls_once)
    assert (report.calls, report.unsent) == (20, 0)
    assert report.latency.max_s == pytest.approx(1.0)
    assert report.latency.percentile(90) == pytest.approx(0.82, rel=0.01)
    assert report.latency.percentile(50) == pytest.approx(0.10, rel=0.01)
    assert report.latency.percentile(45) == pytest.approx(0.01, rel=0.01)
    assert report.late.max_s == pytest.approx(0.9)
    assert report.sent_per_s == pytest.approx(10)


def test_a_closed_loop_hides_the_same_stall() -> None:
    report = driven(Load(clients=1, warmup_s=0, duration_s=2), stalls_once)
    assert report.calls == 101  # 1 stall, 99 others in the second that is left, and the one that begins at its end
    assert report.latency.max_s == pytest.approx(1.0)
    assert report.latency.percentile(99) == pytest.approx(0.01, rel=0.01)


def test_with_clients_enough_only_the_call_that_stalls_is_slow() -> None:
    report = driven(Load(rate=10, even=True, clients=20, warmup_s=0, duration_s=2), stalls_once)
    assert report.calls == 20
    assert report.latency.percentile(95) == pytest.approx(0.01, rel=0.01)
    assert report.late.max_s == pytest.approx(0, abs=1e-6)


def test_what_could_not_be_sent_in_time_is_counted() -> None:
    """One client, a service of 0.4 s, a call due every 0.1 s: those due at 1.0 and 1.1 leave at 1.3 and 1.7."""
    report = driven(Load(rate=10, even=True, clients=1, warmup_s=1, duration_s=1), lambda _: 0.4)
    assert (report.calls, report.unsent) == (2, 9)
    assert report.elapsed_s == pytest.approx(1.1)
    assert report.latency.max_s == pytest.approx(1.0)


def test_a_number_of_calls_ends_the_load() -> None:
    report = driven(Load(clients=3, warmup_s=0.5, duration_s=3600, calls=30), lambda _: 0.1)
    assert report.calls == 30
    assert report.elapsed_s == pytest.approx(1.0)
    assert report.calls_per_s == pytest.approx(30)


def test_cancelling_ends_the_load_and_keeps_the_report() -> None:
    report, lines = Report("virtual:1", Load(clients=2, warmup_s=0)), list[str]()

    async def send(number: int) -> Answer:
        await asyncio.sleep(0.1)
        return ANSWER

    async def interrupted() -> None:
        load = asyncio.create_task(drive(report.load, [send], report, lines.append))
        await asyncio.sleep(1.05)
        load.cancel()
        await load

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(interrupted())
    assert (report.calls, report.interrupted) == (20, True)
    assert lines[:2] == ["0 of 10 s  0 calls  0.0/s", "0 of 10 s  8 calls  20.0/s  p50 100 ms"]
    assert lines[-1] == ""


# ------------------------------------------------------------------------------------------------- the real server


def test_a_closed_loop_against_the_real_server(run: Run, server_target: str) -> None:
    code, out, err = run(
        server_target, "--calls", "40", "--clients", "4", "--warmup", "0", "--images", "2", "--format", "png",
        "--connections", "2", "--json", "load.json", "-o", "load.png",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.startswith(
        f"tiny version 1 at {server_target}: 2 images of 8x8 pixels per call, png\n"
        "4 clients in a closed loop, 40 calls\n\nsucceeded  40 calls, "
    )
    numbers = json.loads(Path("load.json").read_text())
    assert (numbers["calls"], numbers["images"], numbers["failed_calls"]) == (40, 80, 0)
    assert 0 < numbers["server"]["inference"]["max_s"] < numbers["latency"]["max_s"]
    with Image.open("load.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1600, 900))


def test_an_open_loop_against_the_real_server(run: Run, server_target: str) -> None:
    started = time.monotonic()
    code, _, _ = run(server_target, "--rate", "20", "--even", "--duration", "1", "--warmup", "0.2", "--json", "l.json")
    assert (code, time.monotonic() - started < 60) == (0, True)
    numbers = json.loads(Path("l.json").read_text())
    assert numbers["calls"] + numbers["open_loop"]["unsent_calls"] == pytest.approx(20, abs=1)
    assert 5 < numbers["open_loop"]["sent_per_s"] < 25


def test_refusals_are_counted(run: Run, run_server: RunServer, tiny_store: Path) -> None:
    batching = BatchingConfig(max_batch_size=1, max_queued_rows=1)
    config = ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, batching=batching)
    with run_server(config) as server:
        target = f"127.0.0.1:{server.port}"
        code, out, _ = run(target, "--clients", "32", "--calls", "200", "--warmup", "0", "--json", "load.json")
        refused = run(target, "--images", "2", "--calls", "5", "--warmup", "0")
    numbers = json.loads(Path("load.json").read_text())
    assert code == 0
    assert numbers["calls"] > 0
    assert numbers["failures"]["RESOURCE_EXHAUSTED"]["count"] == 200 - numbers["calls"] > 0
    assert (
        f"  RESOURCE_EXHAUSTED {200 - numbers['calls']}: {numbers['failures']['RESOURCE_EXHAUSTED']['message']}" in out
    )
    assert refused[0] == 1


def test_an_unreachable_target_is_one_sentence(run: Run) -> None:
    started = time.monotonic()
    code, out, err = run("127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("progan-client: no ready ProGAN service at 127.0.0.1:1: connection refused; is the service")
    assert err.count("\n") == 1
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("--model nonesuch", 1, "no model 'nonesuch'; this server has: tiny"),
        ("--images 0", 2, "--images: must be at least 1; got 0"),
        ("--images 257", 1, "the call asks for 257 images; one call gives at most 256, give fewer --images"),
        ("--label glasses", 1, "label names were given, and this model has no labels"),
        ("--clients 0", 2, "--clients: must be 1 to 10000; got 0"),
        ("--even", 2, "--even needs --rate"),
        ("-o load.bmp", 2, "--output: must end in .png, .jpg, .jpeg or .webp; got 'load.bmp'"),
        ("--json nowhere/load.json", 1, "nowhere: no such directory"),
        ("--timeout 0", 2, "--timeout: must be a number of seconds above 0; got 0.0"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    run: Run, server_target: str, arguments: str, code: int, sentence: str
) -> None:
    assert run(server_target, *arguments.split()) == (code, "", f"progan-client: {sentence}\n")


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "--help"]) == 0
    assert "exit codes: 0 at least one call succeeded, 1 no call succeeded, 2 wrong usage" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------- a server that refuses


class Servicer(pb_grpc.ImageGeneratorServiceServicer):
    """Refuses the first `busy` calls, answers the others; remembers their first seeds."""

    def __init__(self) -> None:
        self.busy = 0
        self.seeds: list[int] = []
        self.enough = threading.Event()

    def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:  # noqa: N802
        self.seeds.append(request.latents.seed_range.first_seed)
        if len(self.seeds) >= 20:
            self.enough.set()
        if len(self.seeds) <= self.busy:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "10"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return pb.GenerateResponse(images=pb.Images(count=1, height=8, width=8, channels=3, pixels=bytes(192)))


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def target(servicer: Servicer) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    pb_grpc.add_ImageGeneratorServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(grace=0).wait()


def test_errors_are_seen_unless_retries_are_wanted(run: Run, servicer: Servicer, target: str) -> None:
    """The first call, before the load, has the first refusal."""
    servicer.busy = 3
    _, out, _ = run(target, "--calls", "5", "--clients", "1", "--warmup", "0")
    assert "succeeded  3 calls" in out
    assert f"failed     2 calls, 40 %\n  RESOURCE_EXHAUSTED 2: {target} answered RESOURCE_EXHAUSTED: busy\n" in out
    assert servicer.seeds == [0, 1, 2, 3, 4, 5]


def test_retries_hide_them(run: Run, servicer: Servicer, target: str) -> None:
    servicer.busy = 3
    _, out, _ = run(target, "--calls", "5", "--clients", "1", "--warmup", "0", "--retries")
    assert "succeeded  5 calls" in out
    assert "failed" not in out
    assert servicer.seeds == [0, 0, 0, 0, 1, 2, 3, 4, 5]


MAIN = """
import signal, sys
from progan_client.command.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs are started without
sys.exit(main())
"""


def test_ctrl_c_ends_early_and_reports(servicer: Servicer, target: str) -> None:
    command = [sys.executable, "-c", MAIN, "load", "--target", target, "--warmup", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert servicer.enough.wait(timeout=300)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "8 clients in a closed loop, 10 s; interrupted\n" in out


def test_a_service_that_goes_away_is_not_flooded(servicer: Servicer) -> None:
    """Every client waits a little after a failure."""
    report = Report("virtual:1", Load(clients=2, warmup_s=0, duration_s=1))

    async def send(number: int) -> Answer:
        raise UnavailableError("draining", code=grpc.StatusCode.UNAVAILABLE)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(drive(report.load, [send], report))
    assert report.failures["UNAVAILABLE"].message == "draining"
    assert report.failed_calls == pytest.approx(20, abs=2)
