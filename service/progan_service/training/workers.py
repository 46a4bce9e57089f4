"""The workers of a run: who they are, and how they find each other."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from progan_service import exit_codes
from progan_service.errors import ConfigError, MendableError, ProganError

MEET_S = 600.0  # the time that all workers have to come up
_POLL_S = 0.5
_ANSWER_S = 5.0  # the time that an address has to answer


class WorkerLostError(ProganError):
    """Another worker of this run was lost. All workers can go on from the newest checkpoint."""

    exit_code = exit_codes.PREEMPTED


class WorkerPortError(MendableError):
    """This worker cannot listen at its address."""


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
            for address in addresses:
                _host_and_port(address)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"TF_CONFIG is {text!r}: {error!r}") from error
        return cls(tuple(addresses), task["index"])

    @property
    def chief(self) -> bool:
        """Whether this is the first worker, which writes the run directory and exports. The others only read."""
        return self.index == 0

    @property
    def others(self) -> tuple[str, ...]:
        """The addresses of all workers but this one."""
        return self.addresses[: self.index] + self.addresses[self.index + 1 :]


def meet(
    workers: Workers, *, report: Callable[[str], None], stopping: Callable[[], bool], within_s: float = MEET_S
) -> bool:
    """Wait until all other workers answer at their addresses. Return False if `stopping` returned True before.

    TensorFlow waits for them, too, but deaf to signals and without an end. So the workers meet here first: each listens
    at its own address until all others were reached, and then leaves the port to TensorFlow, which answers there, too.
    Raises WorkerLostError that names the missing workers after `within_s` seconds, WorkerPortError if the own port is
    taken.
    """
    report(f"waiting for {len(workers.addresses)} workers, at most {within_s:g} s: {', '.join(workers.addresses)}")
    give_up = time.monotonic() + within_s
    with _listening(workers.addresses[workers.index]) as listener:
        while missing := [address for address in workers.others if not _answers(address)]:
            if stopping():
                return False
            if time.monotonic() > give_up:
                raise WorkerLostError(
                    f"{', '.join(missing)}: no answer within {within_s:g} s; run all workers at the same time, and see "
                    "that each can reach the others"
                )
            _greet_all(listener)
            time.sleep(_POLL_S)
        return True


@contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    _, port = _host_and_port(address)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        listener = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise WorkerPortError(f"{address}: port {port} is taken on this machine; end what listens there") from error
    with listener:
        listener.setblocking(False)
        yield listener


def _greet_all(listener: socket.socket) -> None:
    """Take in the connections that wait: a full queue would let no other in."""
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


def _answers(address: str) -> bool:
    """Return whether something listens at an address. A name that is not known yet is no error."""
    try:
        socket.create_connection(_host_and_port(address), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"worker has {address!r}: an address is HOST:PORT")
    return host.strip("[]"), int(port)
