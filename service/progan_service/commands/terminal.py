"""What a command prints, and how it ends."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from progan_service import exit_codes
from progan_service.errors import FileError
from progan_service.host.faults import OUTPUT, named, translated


def print_any_text() -> None:
    """Let standard output show characters that it has no bytes for as \\x.., as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a line of long work, which goes on when nobody reads it any more."""
    with named(OUTPUT):
        try:
            print(line, flush=True)
        except BrokenPipeError:
            _drop_output()


def ended(run: Callable[[], int]) -> int:
    """Run a command to its end and return its exit code. Print an error as one sentence; raise a bug as it is."""
    try:
        code = _code(run)
        _flush_output()
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except Exception as error:
        reported = translated(error)
        if reported is None:
            raise
        print(f"progan: {reported}", file=sys.stderr)
        with suppress(FileError):
            _flush_output()
        return reported.exit_code
    return code


def _code(run: Callable[[], int]) -> int:
    """Return the exit code of a command, which a parser that has printed its help, or a signal, raises."""
    try:
        return run()
    except SystemExit as leaving:
        return int(leaving.code or 0)


def _flush_output() -> None:
    """Write what was printed. What cannot be written is dropped, or Python would try again when it ends."""
    with named(OUTPUT):
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
            raise


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bars(transient: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total or 0) that draws one bar a stage, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=transient, disable=not console.is_terminal) as bars:
        stages: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total or None)
            bars.update(stages[stage], completed=done)

        yield progress
