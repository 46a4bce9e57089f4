"""The devices and workers that a run trains on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from progan_service.training.workers import WorkerLostError, Workers

_JOIN_S = 120  # for workers that have met already


def make_deterministic() -> None:
    """Make every later step reproducible to the bit, on the same machine."""
    tf.config.experimental.enable_op_determinism()


def choose_strategy(workers: Workers | None) -> tf.distribute.Strategy:
    """Return the strategy for all GPUs of this machine, for all workers, or for the only device.

    Workers have to meet first: see `meet`. If one is lost before TensorFlow has joined them, SIGALRM ends the process,
    because nothing else interrupts TensorFlow here. TensorFlow also replaces the handler of SIGTERM: set handlers after
    this call.
    """
    if workers is None:
        several = len(tf.config.list_physical_devices("GPU")) > 1
        return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    signal.alarm(_JOIN_S)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    signal.alarm(0)
    return strategy


def agreed(number: int, strategy: tf.distribute.Strategy) -> bool:
    """Return whether all workers have the same number."""
    numbers = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(number, tf.float64))
    mean = strategy.reduce(tf.distribute.ReduceOp.MEAN, numbers, axis=None)
    return bool(abs(float(mean) - number) < 0.5 / strategy.num_replicas_in_sync)


@contextmanager
def lost_workers() -> Iterator[None]:
    """Raise WorkerLostError for the errors by which TensorFlow reports a lost worker."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError) as error:
        raise WorkerLostError("a worker was lost; run all of them again to go on from the newest checkpoint") from error
