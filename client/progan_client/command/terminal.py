"""What `progan-client` prints: lines that no text from elsewhere can break, or use to control the terminal."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def printable(text: str) -> str:
    """Write line breaks, escape sequences and other characters that cannot be shown as \\n, \\x1b, \\u202e, ..."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(*lines: str) -> None:
    """Print lines to standard output."""
    print(*map(printable, lines), sep="\n")


def complain(sentence: str) -> None:
    """Print a sentence to standard error, after the name of the program."""
    print(f"progan-client: {printable(sentence)}", file=sys.stderr)


def show_progress(line: str) -> None:
    """Overwrite the previous line on standard error; an empty line only clears it."""
    print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


@contextmanager
def progress_cleared() -> Iterator[None]:
    """Clear the line of `show_progress` at the end of the block, before anything else is printed."""
    try:
        yield
    finally:
        if sys.stderr.isatty():
            show_progress("")


def print_any_text() -> None:
    """Let standard output show characters that it has no bytes for as \\x.., as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write what was printed. What cannot be written is dropped, or Python would try again when it ends."""
    if sys.stdout is None:  # it was closed before the command began
        return
    try:
        sys.stdout.flush()
    except OSError:
        drop_output()
        raise


def drop_output() -> None:
    """Print to nowhere from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
