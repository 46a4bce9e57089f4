"""Imports TensorFlow: with oneDNN, and without messages that say nothing to a user."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

_turn = Lock()  # or one thread would take another's nowhere for stderr, and put it back


def import_tensorflow() -> None:
    """Import TensorFlow and discard what its libraries write to stderr while they load.

    No logging setting takes effect that early. A failing import still raises ImportError.

    TensorFlow uses oneDNN by itself only on x86 processors with AVX-512 VNNI. It is faster on all of them.
    TF_ENABLE_ONEDNN_OPTS=0 in the environment still turns it off.
    """
    if "tensorflow" in sys.modules:
        return
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with unheard():
        import tensorflow  # noqa: F401


@cache
def begin_bfloat16() -> None:
    """Make a first tensor in bfloat16, and discard what oneDNN says to it: that it needs AVX-512 for this type.

    It says so once a process, as an error, and TensorFlow computes by Eigen instead.
    """
    import tensorflow as tf

    with unheard(), tf.device("CPU:0"):
        tf.zeros([1], tf.bfloat16)


@contextmanager
def unheard() -> Iterator[None]:
    """Discard what the process writes to stderr meanwhile, its libraries in C++, too. One thread at a time."""
    with _turn:
        sys.stderr.flush()
        stderr = os.dup(2)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
