"""TODO"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from progan_service.errors import ConfigError

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Reloadable(Generic[Value]):
    """What files say, as of the last time it could be used."""

    def __init__(self, what: str, read: Callable[[], Value]) -> None:
        """`what` names the value in the log; `read` raises ConfigError, here too, for what cannot be used."""
        self.value = read()
        self._what = what
        self._read = read
        self._problem = ""
        self._reported = False

    def reload(self) -> None:
        """Read again. What is broken twice in a row is reported, once: files may be looked at amid being replaced."""
        try:
            value = self._read()
        except Exception as error:  # whatever it is, what was there holds and the next look may be better
            self._report(str(error))
            return
        self._problem = ""
        if value != self.value:
            self.value = value
            log.info("%s changed: the new ones are in use", self._what)

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem, self._reported = problem, False
        elif not self._reported:
            self._reported = True
            log.error("%s stay as they were: %s", self._what, problem)


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def text(path: Path) -> str:
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
