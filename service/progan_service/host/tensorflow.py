"""Imports TensorFlow without its start-up messages."""

import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow and discard what its libraries write to stderr while they load.

    No logging setting takes effect that early. A failing import still raises ImportError.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
