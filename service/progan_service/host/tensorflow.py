"""Imports TensorFlow: with oneDNN, and without messages that say nothing to a user."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
    with _unheard():
        import tensorflow  # noqa: F401


def begin_bfloat16() -> None:
    """Make a first tensor in bfloat16, and discard what oneDNN says to it: that it needs AVX-512 for this type.

    It says so once a process, as an error, and TensorFlow computes by Eigen instead.
    """
    import tensorflow as tf

    with _unheard(), tf.device("CPU:0"):
        tf.zeros([1], tf.bfloat16)


@contextmanager
def _unheard() -> Iterator[None]:
    """Discard what is written to stderr meanwhile, by libraries in C++, too."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
