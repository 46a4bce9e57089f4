"""The entry of the `progan` command. It imports next to nothing, to be in charge of signals and streams at once."""

import os
import sys

from progan_service.host.signals import leave_at_once


def main() -> None:
    """Run one command and exit with its code."""
    leave_at_once(goes_on=sys.argv[1:2] == ["train"])
    _open_standard_streams()
    from progan_service.commands import parser

    parser.main()


def _open_standard_streams() -> None:
    """Open closed standard streams on /dev/null. Else the next files and sockets would take their places."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - they stay open as long as the process lives
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
