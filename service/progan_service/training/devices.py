"""The devices and workers that a run trains on."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import tensorflow as tf

from progan_service import exit_codes
from progan_service.errors import ConfigError, ProganError

JOIN_TIMEOUT_S = 600  # for all workers to connect


class WorkerLostError(ProganError):
    """Another worker of this run was lost. All workers can go on from the newest checkpoint."""

    exit_code = exit_codes.PREEMPTED


@dataclass(frozen=True)
class Workers:
    """The workers of a run, as the environment variable TF_CONFIG describes them to each:

    {"cluster": {"worker": ["host0:port", "host1:port"]}, "task": {"type": "worker", "index": 0}}
    """

    addresses: tuple[str, ...]
    index: int

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse TF_CONFIG. Raises ConfigError unless it is a cluster of workers and the index of this one."""
        try:
            document = json.loads(text)
            addresses, task = document["cluster"]["worker"], document["task"]
            if list(document["cluster"]) != ["worker"] or task["type"] != "worker":
                raise ValueError("all tasks must be of type worker")
            if not isinstance(addresses, list):
                raise ValueError(f"worker is {addresses!r}: it must be a list of addresses")
            if task["index"] not in range(len(addresses)):
                raise ValueError(f"task index is {task['index']!r}: there are {len(addresses)} workers")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"TF_CONFIG is {text!r}: {error!r}") from error
        return cls(tuple(addresses), task["index"])

    @property
    def chief(self) -> bool:
        """Whether this is the first worker, which writes the run directory. The others only read it."""
        return self.index == 0


def make_deterministic() -> None:
    """Make every later step reproducible to the bit, on the same machine."""
    tf.config.experimental.enable_op_determinism()


def choose_strategy(workers: Workers | None, report: Callable[[str], None]) -> tf.distribute.Strategy:
    """Return the strategy for all GPUs of this machine, for all workers, or for the only device.

    Waits for the other workers. If they do not connect within JOIN_TIMEOUT_S, SIGALRM ends the process, because nothing
    else interrupts TensorFlow here. TensorFlow also replaces the handler of SIGTERM: set handlers after this call.
    """
    if workers is None:
        several = len(tf.config.list_physical_devices("GPU")) > 1
        return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    report(f"waiting for {len(workers.addresses)} workers, at most {JOIN_TIMEOUT_S} s: {', '.join(workers.addresses)}")
    signal.alarm(JOIN_TIMEOUT_S)
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
