"""Values that are read from files again and again while the server runs."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from progan_service.errors import ConfigError
from progan_service.host.files import content

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Reloadable(Generic[Value]):
    """A value read from files: the last one that could be used.

    what      names it, in the plural
    read_at   when it was last read without an error, in seconds since 1970; also if it was the same

    Threads: one task calls `reload`, in any thread, and never twice at a time. Any thread may read `value` and
    `read_at`: they are replaced in one assignment and never changed, so there is no lock.
    """

    def __init__(self, what: str, read: Callable[[], Value]) -> None:
        """`read` raises ConfigError for a value that cannot be used.

        Raises what `read` raises.
        """
        self.value = read()
        self.read_at = time.time()
        self.what = what
        self._read = read
        self._problem = ""
        self._reported = False

    def reload(self) -> None:
        """Read the value again; keep the old one if that fails.

        A failure is logged once, and only when it happens twice in a row: the files may be in the middle of a change.
        """
        try:
            value = self._read()
        except Exception as error:  # whatever it is, the old value stays and the next reload may succeed
            self._report(str(error))
            return
        self._problem = ""
        self.read_at = time.time()
        if value != self.value:
            self.value = value
            log.info("%s were reloaded", self.what)

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem, self._reported = problem, False
        elif not self._reported:
            self._reported = True
            log.error("%s were not reloaded: %s; the old ones stay in use", self.what, problem)


def text(path: Path) -> str:
    """Return the text of a file in UTF-8. Raises ConfigError, which names the path."""
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
