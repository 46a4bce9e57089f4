"""What signals do to a command before, and while, it runs."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from progan_service import exit_codes

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_at_once(*, goes_on: bool = False) -> None:
    """End the process without a word when a signal comes: while Python imports, nothing is there to be cleaned up.

    The first process of a container would ignore signals that it has no handler for.

    goes_on   the same command goes on later: exit with PREEMPTED, as it does for signals that come later
    """
    take_over(_leave_to_go_on if goes_on else _leave)


def take_over(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers, signals: Iterable[signal.Signals] = _ENDING
) -> None:
    """Call `handler` when a signal comes that ends a command, or ignore it: SIG_IGN.

    Whoever started the command may have had a signal ignored, as `nohup` does: it stays so.
    """
    for number in signals:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def as_usual() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, and other signals end the process."""
    for number in _ENDING:
        if signal.getsignal(number) in (_leave, _leave_to_go_on):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise SIGTERM and SIGHUP as SystemExit within the block, so that it can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set a handler, and only it is interrupted by a signal
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    take_over(_exit, previous)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut the cleaning up short
    raise SystemExit(128 + number)


def _leave(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def _leave_to_go_on(number: int, _: FrameType | None) -> None:
    os._exit(exit_codes.PREEMPTED)
