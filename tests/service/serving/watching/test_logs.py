"""Lines for people and for collectors, as they arrive at the other end of the server's standard output."""

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progan_service.serving.config import LogConfig
from progan_service.serving.watching import logs

log = logging.getLogger("progan_service.tests")

Lines = Callable[..., list[str]]


@pytest.fixture
def logged(tmp_path: Path) -> Lines:
    """The lines of what an action logs, with LogConfig(...) of the settings; JSON unless they say otherwise."""

    def run(action: Callable[[], object], **settings: Any) -> list[str]:
        with (tmp_path / "log").open("w+b") as file:
            with logs.logging_to(file.fileno(), LogConfig(**{"log_format": "json", **settings})):
                action()
            return Path(file.name).read_text().splitlines()

    return run


def fail() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("it broke")


def test_a_line_for_a_collector_is_an_object_with_time_level_logger_message_and_fields(logged: Lines) -> None:
    began = time.time()
    [line] = logged(lambda: log.warning("%d of %s", 2, "é", extra={"fields": {"model": "faces", "path": Path("a")}}))
    entry = json.loads(line)
    at = entry.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    assert at >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began))
    assert entry == {
        "level": "WARNING",
        "logger": "progan_service.tests",
        "message": "2 of é",
        "model": "faces",
        "path": "a",
    }


def test_times_are_in_utc_to_the_millisecond(logged: Lines) -> None:
    record = log.makeRecord(log.name, logging.INFO, "here", 1, "hello", (), None)
    record.created = 1700000000.0625
    [line] = logged(lambda: log.handle(record))
    assert json.loads(line)["time"] == "2023-11-14T22:13:20.062Z"


def test_an_exception_is_one_field_of_its_line(logged: Lines) -> None:
    [line] = logged(fail)
    entry = json.loads(line)
    assert entry["message"] == "it broke"
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert entry["exception"].endswith("ValueError: first\nsecond")


def test_in_text_a_person_reads_time_level_and_message_and_the_trace(logged: Lines) -> None:
    first, *trace = logged(fail, log_format="text")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR it broke", first)
    assert (trace[0], trace[-1]) == ("Traceback (most recent call last):", "second")


def test_an_announcement_is_a_bare_line_in_text_and_an_object_in_json(logged: Lines) -> None:
    def announce() -> None:
        logs.announce("ready: 100% of it", version=2)

    assert logged(announce, log_format="text") == ["ready: 100% of it"]
    [line] = logged(announce)
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "level": "INFO",
        "logger": "progan_service",
        "message": "ready: 100% of it",
        "version": 2,
    }


def test_auto_is_json_in_a_file_and_text_on_a_terminal(logged: Lines) -> None:
    [line] = logged(lambda: log.info("hello"), log_format="auto")
    assert json.loads(line)["message"] == "hello"
    reader, terminal = os.openpty()
    with logs.logging_to(terminal, LogConfig()):
        logs.announce("hello")
    assert os.read(reader, 100) == b"hello\r\n"
    os.close(reader)
    os.close(terminal)


def test_the_level_says_what_is_logged(logged: Lines) -> None:
    def talk() -> None:
        log.debug("a")
        log.info("b")
        log.warning("c")
        log.error("d")

    messages = {level: [json.loads(line)["message"] for line in logged(talk, log_level=level)] for level in LEVELS}
    assert messages == {"debug": ["a", "b", "c", "d"], "info": ["b", "c", "d"], "warning": ["c", "d"], "error": ["d"]}


LEVELS = ["debug", "info", "warning", "error"]


def test_lines_about_calls_can_be_left_out(logged: Lines) -> None:
    def call() -> None:
        logs.requests_log.info("Generate OK")

    assert len(logged(call)) == 1
    assert logged(call, log_requests=False) == []
    assert logged(call, log_level="warning") == []


def test_pythons_own_warnings_are_lines_too(logged: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        [line] = logged(lambda: warnings.warn("old", DeprecationWarning, stacklevel=1))
    assert json.loads(line)["logger"] == "py.warnings"


def test_text_that_is_no_text_is_logged_all_the_same(logged: Lines) -> None:
    assert logged(lambda: logs.announce("torn \ud83c"), log_format="text") == ["torn \\ud83c"]


def test_a_log_call_that_is_wrong_breaks_nothing(logged: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    lines = logged(lambda: (log.info("%d", "one"), log.info("two")))
    assert [json.loads(line)["message"] for line in lines] == ["two"]
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_reader_that_is_gone_or_asleep_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LAST_LINES_S", 0.05)
    for asleep in (True, False):
        reader, writer = os.pipe()
        if not asleep:
            os.close(reader)
        began = time.monotonic()
        with logs.logging_to(writer, LogConfig()):
            for _ in range(12_000):
                log.info("hello")
        assert time.monotonic() - began < 60
        if asleep:
            os.close(reader)  # wakes the writer, which ends


def test_afterwards_all_is_as_it_was(logged: Lines) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logs.requests_log.level
    logged(lambda: None, log_level="debug", log_requests=False)
    assert (root.handlers, root.level, logs.requests_log.level) == before
