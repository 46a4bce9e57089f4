"""A directory that appears whole or not at all."""

import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from progan_service.data.errors import DatasetError


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` to write into, renamed to `out` at the end and removed on any failure.

    SIGTERM counts as a failure: it is raised as SystemExit inside the block. Missing parents of `out` are made.

    Raises:
        DatasetError: `out` exists, or it cannot be written.
    """
    if out.exists() or out.is_symlink():
        raise DatasetError(f"{out}: already exists: give the name of a new directory")
    parent = out.resolve().parent
    partial = parent / f".{out.name}.{secrets.token_hex(4)}.partial"
    with _sigterm_raises():
        try:
            partial.mkdir(parents=True)
            yield partial
            partial.rename(out)
        except OSError as error:
            raise DatasetError(f"{out}: cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set a handler, and only it is interrupted by a signal
        return
    previous = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut the cleaning up short
    raise SystemExit(128 + number)
