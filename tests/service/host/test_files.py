"""Files and directories appear whole or not at all."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from progan_service.errors import ConfigError, FileError
from progan_service.host.files import content, new_directory, remove_partials, replaced


def everything_in(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


@contextmanager
def failing_fsync(monkeypatch: pytest.MonkeyPatch, good: int) -> Iterator[None]:
    """The disk is full for every fsync after the first `good` ones."""
    really, calls = os.fsync, iter(range(1000))

    def fsync(descriptor: int) -> None:
        if next(calls) >= good:
            raise OSError(28, "No space left on device")
        really(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield


def write_file(path: Path, content: str, *, interrupted: bool = False) -> None:
    with replaced(path) as partial:
        partial.write_text(content)
        if interrupted:
            raise KeyboardInterrupt


def write_directory(path: Path, *, terminated: bool = False) -> None:
    with new_directory(path) as partial:
        (partial / "variables").mkdir()
        (partial / "saved_model.pb").touch()
        if terminated:
            os.kill(os.getpid(), signal.SIGTERM)


# A file


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "swd.json"
    with replaced(path) as partial:
        partial.write_text("{}")
        assert not path.exists()
    assert path.read_text() == "{}"
    assert everything_in(tmp_path) == ["figures", "figures/swd.json"]


def test_an_earlier_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "swd.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_file(path, "ne", interrupted=True)
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["swd.json"]


@pytest.mark.parametrize("good", [0, 1], ids=["the file", "its directory"])
def test_a_failed_sync_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int) -> None:
    full = f"^{tmp_path}/swd.json: the disk is full; free some space, or give another path$"
    with failing_fsync(monkeypatch, good), pytest.raises(FileError, match=full):
        write_file(tmp_path / "swd.json", "{}")
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(("good", "content"), [(0, "old"), (1, "new")])
def test_a_failed_sync_never_loses_an_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int, content: str
) -> None:
    path = tmp_path / "swd.json"
    path.write_text("old")
    with failing_fsync(monkeypatch, good), pytest.raises(FileError):
        write_file(path, "new")
    assert path.read_text() == content
    assert everything_in(tmp_path) == ["swd.json"]


# A directory


def test_a_directory_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "data" / "faces"
    with new_directory(path) as partial:
        (partial / "faces-r02.tfrecords").touch()
        assert not path.exists()
    assert everything_in(tmp_path) == ["data", "data/faces", "data/faces/faces-r02.tfrecords"]


def test_a_directory_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}: already exists: give the name of a new directory$"):
        write_directory(tmp_path)
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("good", range(4), ids=["variables", "saved_model.pb", "the directory", "the one above"])
def test_a_failed_sync_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int) -> None:
    with failing_fsync(monkeypatch, good), pytest.raises(FileError, match=f"^{tmp_path}/faces: the disk is full; "):
        write_directory(tmp_path / "faces")
    assert everything_in(tmp_path) == []


def test_sigterm_leaves_no_directory(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        write_directory(tmp_path / "faces", terminated=True)
    assert ended.value.code == 143
    assert everything_in(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is before


# What a killed process leaves

KILLED = """
import os, signal, sys
from pathlib import Path
from progan_service.host.files import content, new_directory, replaced

with new_directory(Path(sys.argv[1], "faces")) as directory, replaced(Path(sys.argv[1], "run", "config.json")) as file:
    (directory / "variables").mkdir()
    file.write_text("{")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_can_be_told_and_removed(tmp_path: Path) -> None:
    (tmp_path / ".hidden.partial").touch()
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path]).returncode == -signal.SIGKILL
    assert len(everything_in(tmp_path)) == 5  # two partial ones, what is in one, "run", and a file of somebody else
    assert remove_partials(tmp_path, older_than_s=3600) == 0
    assert remove_partials(tmp_path) == 2
    assert everything_in(tmp_path) == [".hidden.partial", "run"]


def test_a_new_directory_removes_what_a_killed_process_left_of_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path])
    (left,) = tmp_path.glob(".faces.*.partial")
    (tmp_path / ".faces.mine.partial").mkdir()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    with new_directory(tmp_path / "faces") as first, new_directory(tmp_path / "faces.2") as other:
        assert not left.exists()
        for path in (first, other):
            os.utime(path, (0, 0))
        with suppress(FileError), new_directory(tmp_path / "faces"):
            assert first.exists()  # it is being written
            assert other.exists()
    assert (tmp_path / ".faces.mine.partial").exists()


# Reading


def test_content_is_that_of_a_file_and_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("alice a-token")
    (tmp_path / "link").symlink_to("tokens")
    assert content(tmp_path / "link") == b"alice a-token"
    os.mkfifo(tmp_path / "pipe")
    for path, problem in (
        (tmp_path / "pipe", "is a named pipe: must be a file"),
        (tmp_path, "is a directory: must be a file"),
        (Path("/dev/null"), "is a device: must be a file"),
        (tmp_path / "none", "cannot be read: No such file or directory"),
        (tmp_path / "link" / "none", "cannot be read: Not a directory"),
    ):
        with pytest.raises(ConfigError) as refused:
            content(path)
        assert str(refused.value) == f"{path}: {problem}"
