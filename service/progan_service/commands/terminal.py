"""What a command prints, and how it ends."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from progan_service import exit_codes
from progan_service.errors import one_line
from progan_service.host.faults import OUTPUT, named, translated
from progan_service.names import printable
from progan_service.progress import Progress

_LINE_S = 10.0  # between two lines of progress


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


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print rows of cells, the headings first, in columns."""
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def ended(run: Callable[[], int]) -> int:
    """Run a command to its end and return its exit code. Print an error as one sentence; raise a bug as it is."""
    try:
        code = _code(run)
        _flush_output()
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:  # as of `| head -1`
        _drop_output()
        return exit_codes.NOBODY_READS
    except Exception as error:
        reported = translated(error)
        if reported is None:
            raise
        print(f"progan: {printable(str(reported))}", file=sys.stderr)
        with suppress(OSError):
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
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        raise


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bars(transient: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """A callback (stage, done, total or 0) that draws one bar a stage, on a terminal.

    Elsewhere it prints a line every ten seconds, unless the bars are transient: then other lines tell of the work.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _no_progress if transient else _lines(clock)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=transient) as bars:
        stages: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total or None)
            bars.update(stages[stage], completed=done)

        yield progress


def _no_progress(_stage: str, _done: int, _total: int) -> None:
    pass


def _lines(clock: Callable[[], float]) -> Progress:
    """Return a callback that prints to standard error, which may have been closed."""
    due = clock() + _LINE_S

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal due
        if clock() >= due:
            due = clock() + _LINE_S
            with suppress(OSError):
                print(f"{stage}: {done} of {total}" if total else f"{stage}: {done}", file=sys.stderr, flush=True)

    return progress
