"""What load to put on a service, and when its calls are due. Pure."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from progan_client.channel import checked_timeout_s
from progan_client.errors import ArgumentError
from progan_client.images import Encoding

MAX_CLIENTS = 10_000


@dataclass(frozen=True)
class Load:
    """What is asked, how often and for how long; checked when made.

    `images`       images a call.
    `encoding`     how they travel.
    `clients`      closed loop: so many clients ask, each again as soon as it has its answer. Open loop: so many calls
                   are in flight at most; one that is due while they all wait is sent late.
    `rate`         open loop: calls a second fall due, whatever the service does; None: closed loop.
    `even`         calls of the open loop fall due evenly; else at random, a Poisson process, as of many callers who
                   do not know of each other.
    `warmup_s`     seconds of the same load before anything is measured.
    `duration_s`   measured seconds, after which no call is sent; infinite only with `calls`.
    `calls`        measured calls at most; None: as many as the duration has.
    `connections`  connections that the clients share.
    `timeout_s`    deadline of each call, from when it is sent.
    `retries`      whether calls that are refused for now are tried again, as those of `Client` are.
    """

    images: int = 1
    encoding: Encoding = "raw"
    clients: int = 8
    rate: float | None = None
    even: bool = False
    warmup_s: float = 1.0
    duration_s: float = 10.0
    calls: int | None = None
    connections: int = 1
    timeout_s: float = 30.0
    retries: bool = False

    def __post_init__(self) -> None:
        for name in ("clients", "connections"):
            if not 1 <= getattr(self, name) <= MAX_CLIENTS:
                raise ArgumentError(name, f"must be 1 to {MAX_CLIENTS}", getattr(self, name))
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ArgumentError("rate", "must be a number of calls a second above 0", self.rate)
        if self.even and self.rate is None:
            raise ArgumentError("even", "needs a rate", self.even)
        if not 0 <= self.warmup_s < math.inf:
            raise ArgumentError("warmup_s", "must be a number of seconds, 0 or more", self.warmup_s)
        if not self.duration_s > 0 or (self.duration_s == math.inf and self.calls is None):
            raise ArgumentError("duration_s", "must be a number of seconds above 0", self.duration_s)
        if self.calls is not None and self.calls < 1:
            raise ArgumentError("calls", "must be at least 1", self.calls)
        checked_timeout_s("timeout_s", self.timeout_s)

    @property
    def end_s(self) -> float:
        """Seconds from the start to the end of the measured time."""
        return self.warmup_s + self.duration_s

    def is_too_late(self, due_s: float, now_s: float) -> bool:
        """Whether a call of the open loop is left out: the time that it belongs to, warm-up or measured, is over."""
        return self.rate is not None and now_s > (self.warmup_s if due_s < self.warmup_s else self.end_s)


def due_times(load: Load, now: Callable[[], float]) -> Iterator[float]:
    """When calls are due, in seconds after the start: those of the warm-up, then those to be measured.

    `now` tells the seconds since the start; in a closed loop a call is due at the moment it is asked for.
    """
    measured = 0
    for due in iter(now, None) if load.rate is None else _arrivals(load.rate, load.even):
        measured += due >= load.warmup_s
        if due > load.end_s or (load.calls is not None and measured > load.calls):
            return
        yield due


def _arrivals(rate: float, even: bool) -> Iterator[float]:
    """`rate` moments a second, without end, the same in every run."""
    gaps = random.Random(0)
    due = 0.0
    for number in count(1):
        due = number / rate if even else due + gaps.expovariate(rate)
        yield due
