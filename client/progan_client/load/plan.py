"""Define a load and compute when its calls are due. Pure."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from progan_client.checks import checked_integer, checked_number, checked_timeout_s
from progan_client.errors import ArgumentError
from progan_client.images import Encoding

MAX_CLIENTS = 10_000


@dataclass(frozen=True)
class Load:
    """The settings of a load test, checked when created.

    `images`       images per call.
    `encoding`     format on the wire.
    `clients`      closed loop: number of clients; each sends its next call as soon as it has a reply. Open loop:
                   maximum number of calls in flight; a call that is due while all are in flight is sent late.
    `rate`         open loop: calls per second, independent of the service; None: closed loop.
    `even`         open loop: calls are due at equal intervals; else at random (a Poisson process), as from many
                   independent callers.
    `warmup_s`     seconds of the same load before the measurement.
    `duration_s`   seconds of the measurement; may be infinite if `calls` is given.
    `calls`        maximum number of measured calls; None: no maximum.
    `connections`  connections that the clients share.
    `timeout_s`    deadline of a call in seconds, from when it is sent.
    `retries`      whether refused calls are retried, as by `Client`.
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
        checked_integer("images", self.images, 1)
        for name in ("clients", "connections"):
            checked_integer(name, getattr(self, name), 1, MAX_CLIENTS)
        rule = "must be a number of calls per second above 0"
        if self.rate is not None and not 0 < checked_number("rate", rule, self.rate) < math.inf:
            raise ArgumentError("rate", rule, self.rate)
        if self.even and self.rate is None:
            raise ArgumentError("even", "needs a rate", self.even)
        rule = "must be a number of seconds, 0 or more"
        if not 0 <= checked_number("warmup_s", rule, self.warmup_s) < math.inf:
            raise ArgumentError("warmup_s", rule, self.warmup_s)
        rule = "must be a number of seconds above 0"
        duration_s = checked_number("duration_s", rule, self.duration_s)
        if not duration_s > 0 or (duration_s == math.inf and self.calls is None):
            raise ArgumentError("duration_s", rule, self.duration_s)
        if self.calls is not None:
            checked_integer("calls", self.calls, 1)
        checked_timeout_s("timeout_s", self.timeout_s)

    @property
    def end_s(self) -> float:
        """Seconds from the start of the load to the end of the measurement."""
        return self.warmup_s + self.duration_s

    def is_too_late(self, due_s: float, now_s: float) -> bool:
        """Return whether a call of the open loop is skipped: its part of the load, warm-up or measurement, is over."""
        return self.rate is not None and now_s > (self.warmup_s if due_s < self.warmup_s else self.end_s)


def due_times(load: Load, now: Callable[[], float]) -> Iterator[float]:
    """Yield when each call is due, in seconds after the start: first the warm-up, then the measurement.

    `now` returns the seconds since the start. In a closed loop, a call is due when the iterator is asked for it.
    """
    measured = 0
    for due in iter(now, None) if load.rate is None else _arrivals(load.rate, load.even):
        measured += due >= load.warmup_s
        if due > load.end_s or (load.calls is not None and measured > load.calls):
            return
        yield due


def _arrivals(rate: float, even: bool) -> Iterator[float]:
    """Yield `rate` times per second without end, the same in every run."""
    gaps = random.Random(0)
    due = 0.0
    for number in count(1):
        due = number / rate if even else due + gaps.expovariate(rate)
        yield due
