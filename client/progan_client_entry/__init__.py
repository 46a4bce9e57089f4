"""The entry of the command `progan-client`, outside of the package: importing that takes half a second, for gRPC.

Until it is imported, Ctrl-C ends the process without a word. Afterwards it raises KeyboardInterrupt, as usual.
"""

import os
import signal

INTERRUPTED = 130


def main() -> int:
    """Run one command and return its exit code."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as in the background of a script
    if not ignored:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from progan_client.command.main import main

    if not ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()
