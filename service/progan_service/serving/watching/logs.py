"""What the server tells, line by line: text for people, JSON for collectors.

A record may carry `fields`, a mapping: JSON has them beside time, level, logger and message, text leaves them out.
Lines are written by a thread of their own: a reader that is slow, or gone, holds up no call.
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

requests_log = logging.getLogger("progan_service.requests")  # one line a call

_announcements = logging.getLogger("progan_service")

_STDOUT = 1
_ROOM_LINES = 10_000  # that may wait for a slow reader; what comes then is lost
_TOGETHER_S = 0.05  # what comes within is written together: to wake a thread for each line would slow the calls down
_LAST_LINES_S = 1  # what they get to be written at the end

_encode = json.JSONEncoder(default=str).encode


def announce(message: str, **fields: Any) -> None:
    """Tell what a person at a terminal wants to see; in text it is the bare message."""
    _announcements.info("%s", message, extra={"fields": fields, "bare": True})


def complaint(config: LogConfig, message: str) -> str:
    """The line about what ends the server before it serves."""
    return _json_line("CRITICAL", "progan", message, {}, time.time()) if _as_json(config) else f"progan: {message}"


@contextmanager
def telling(config: LogConfig, descriptor: int = _STDOUT) -> Iterator[None]:
    """Within the block all that is logged goes to the file descriptor, as the configuration has it."""
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


def _as_json(config: LogConfig, descriptor: int = _STDOUT) -> bool:
    return config.log_format == "json" or (config.log_format == "auto" and not os.isatty(descriptor))


def _json_line(level: str, logger: str, message: str, fields: Mapping[str, Any], at: float) -> str:
    """A line as a collector takes it; `at` in seconds of time.time()."""
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
    def __init__(self, lines: "_Lines") -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put(self.format(record))
        except Exception:
            self.handleError(record)


class _Lines:
    """Lines on their way to a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        if self._waiting.qsize() < _ROOM_LINES:
            self._waiting.put(line)

    def close(self) -> None:
        """Returns when all is written, or nobody has read it for a while."""
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
