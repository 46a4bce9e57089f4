"""Log lines on standard output: text for people, JSON for collectors.

A record may have `fields`, a mapping. JSON has them beside time, level, logger and message; text leaves them out.
"""

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from progan_service.serving.config import LogConfig

requests_log = logging.getLogger("progan_service.requests")  # one line for each call

_announcements = logging.getLogger("progan_service")

STDOUT = 1
_MAX_WAITING_LINES = 10_000  # for a slow reader; further lines are lost
_TOGETHER_S = 0.05  # lines within this time are written at once: waking a thread for each would slow calls down
_LAST_LINES_S = 1  # how long the last lines may take to be written at the end

_encode = json.JSONEncoder(default=str).encode


def announce(message: str, **fields: Any) -> None:
    """Log what a person at a terminal wants to see. In text it is the bare message."""
    _announcements.info("%s", message, extra={"fields": fields, "bare": True})


def fatal_line(config: LogConfig, message: str) -> str:
    """Return the line about an error that ends the server before it serves."""
    return _json_line("CRITICAL", "progan", message, {}, time.time()) if _as_json(config) else f"progan: {message}"


@contextmanager
def logging_to(descriptor: int, config: LogConfig) -> Iterator[None]:
    """Within the block write all log lines to the file descriptor, as the configuration says."""
    with _without_unused_facts(), _handling(descriptor, config):
        yield


@contextmanager
def _without_unused_facts() -> Iterator[None]:
    """Let logging not find out what no line has, such as the place in the source: it takes a third of a line's time."""
    unused = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")
    before = {name: getattr(logging, name) for name in unused}
    for name in unused:
        setattr(logging, name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(logging, name, value)


@contextmanager
def _handling(descriptor: int, config: LogConfig) -> Iterator[None]:
    lines = _Lines(descriptor)
    handler = _Handler(lines)
    handler.setFormatter(_Json() if _as_json(config, descriptor) else _Text())
    root, level = logging.getLogger(), config.log_level.upper()
    handlers, levels = root.handlers[:], (root.level, requests_log.level)
    root.handlers[:] = [handler]
    root.setLevel(level)
    requests_log.setLevel(level if config.log_requests else logging.CRITICAL)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        requests_log.setLevel(levels[1])
        lines.close()


def _as_json(config: LogConfig, descriptor: int = STDOUT) -> bool:
    return config.log_format == "json" or (config.log_format == "auto" and not os.isatty(descriptor))


def _json_line(level: str, logger: str, message: str, fields: Mapping[str, Any], at: float) -> str:
    """Return a line for a collector; `at` is in seconds of time.time()."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    line = {"time": f"{stamp}.{int(at % 1 * 1000):03d}Z", "level": level, "logger": logger, "message": message}
    return _encode({**line, **fields})


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "exception": self.formatException(record.exc_info)}
        return _json_line(record.levelname, record.name, record.getMessage(), fields, record.created)


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if hasattr(record, "bare") else super().format(record)


class _Handler(logging.Handler):
    """Formats in the thread that logs, and hands the line over. logging's own lock lets in one thread at a time."""

    def __init__(self, lines: "_Lines") -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put(self.format(record))
        except Exception:
            self.handleError(record)


class _Lines:
    """Lines on their way to a file descriptor. A reader that is slow, or gone, holds up nobody who logs.

    Any thread may `put`, without waiting. One thread, started here, writes; nothing else touches the descriptor. They
    share the queue only, which has a lock of its own. `close` is called once, when nothing is logged here any more.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        if self._waiting.qsize() < _MAX_WAITING_LINES:
            self._waiting.put(line)

    def close(self) -> None:
        """Return when all lines are written, or when nobody has read them for a second."""
        self._waiting.put(None)
        self._thread.join(_LAST_LINES_S)

    def _write(self) -> None:
        last = False
        while not last:
            lines = [self._waiting.get()]
            time.sleep(_TOGETHER_S)
            with suppress(queue.Empty):
                while True:
                    lines.append(self._waiting.get_nowait())
            last = None in lines
            data = "".join(f"{line}\n" for line in lines if line is not None).encode(errors="backslashreplace")
            with suppress(OSError):  # nobody reads any more
                while data:
                    data = data[os.write(self._descriptor, data) :]
