import io
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from progan_service.data.making.conversion import Conversion
from progan_service.data.making.workers import Workers
from progan_service.decoding.errors import PictureError
from progan_service.errors import MendableError

PICTURES = 200


def _png(size: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def two() -> Iterator[Workers]:
    with Workers(Conversion(8, "crop"), 2) as workers:
        yield workers


def _kill(workers: Workers, number: signal.Signals) -> None:
    for process in workers._processes:
        process._process.send_signal(number)


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_process_answers_as_this_one_does(two: Workers) -> None:
    two.check(_png())
    assert two.records(_png()) == Conversion(8, "crop").records(_png())
    with pytest.raises(PictureError, match="^4x4 pixels: the shorter side must be at least 8$"):
        two.check(_png(4))
    with pytest.raises(PictureError, match="^is empty$"):
        two.records(b"")


def test_results_come_in_order(two: Workers) -> None:
    sizes = [8 + index % 50 for index in range(200)]
    assert list(two.map(lambda size: (size, two.check(_png(size))), sizes)) == [(size, None) for size in sizes]


def test_few_pictures_are_under_way(two: Workers) -> None:
    taken = []

    def items() -> Iterator[int]:
        for index in range(100):
            taken.append(index)
            yield index

    results = two.map(lambda index: index, items())
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(taken) == 13


def test_a_picture_that_crashes_its_decoder_is_refused(two: Workers) -> None:
    _kill(two, signal.SIGSEGV)
    for _ in range(2):
        with pytest.raises(PictureError, match=r"^crashes its decoder \(Segmentation fault\)$"):
            two.check(_png())
    two.check(_png())


def test_a_process_that_is_killed_is_no_fault_of_its_picture(two: Workers) -> None:
    _kill(two, signal.SIGKILL)
    with pytest.raises(
        MendableError, match="^a process that decodes pictures was killed: there may be too little memory$"
    ):
        two.check(_png())


BUILD = """
import sys, time
from pathlib import Path
from progan_service.commands import terminal
from progan_service.data.making.build import build_dataset

def progress(stage, done, total):
    print(stage, done, flush=True)
    if done == 150:
        time.sleep(600)

here = Path(sys.argv[1])
sys.exit(terminal.ended(lambda: build_dataset(here / "photos", here / "out", 8, "crop", progress, cpus=3) and 0))
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A build with three processes that has checked 150 pictures."""
    (tmp_path / "photos").mkdir()
    for index in range(PICTURES):
        (tmp_path / "photos" / f"{index}.png").write_bytes(_png())
    with subprocess.Popen([sys.executable, "-c", BUILD, tmp_path], stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout
        for line in build.stdout:
            if line == "Checking 150\n":
                break
        yield build
        build.kill()


def _wait_for_the_end_of(processes: list[int]) -> None:
    """Wait until no process has a command line: it is gone, or only its exit code is left."""
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            while Path(f"/proc/{process}/cmdline").read_bytes():
                time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_build_and_leaves_nothing(
    tmp_path: Path, busy: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    workers = _children(busy.pid)
    assert len(workers) == 3
    busy.send_signal(number)
    assert busy.wait() == code
    _wait_for_the_end_of(workers)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_the_processes_of_a_build_that_is_killed_end(tmp_path: Path, busy: subprocess.Popen[str]) -> None:
    workers = _children(busy.pid)
    busy.kill()
    _wait_for_the_end_of(workers)
