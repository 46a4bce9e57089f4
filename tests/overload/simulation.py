"""Simulates devices in front of which calls queue by the rules of the server. A minute takes a moment.

It drives BatchQueue and Pace as DynamicBatcher does.
"""

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from calls import INFINITY, Asked

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.flights import Flight, Flights
from progan_service.serving.batching.pace import Pace
from progan_service.serving.batching.queue import BatchQueue
from progan_service.serving.batching.work import Slice, Work
from progan_service.serving.config import BatchingConfig

SIZES = (1, 2, 4, 8, 16)

_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Machine:
    """Devices on which a batch takes a fixed time and a time for each row.

    slowness   by which the time of a batch that begins at some time is multiplied
    noise      standard deviation of the logarithm of that time
    """

    batch_s: float = 0.002
    row_s: float = 0.003
    devices: int = 1
    slowness: Callable[[float], float] = lambda _: 1.0
    noise: float = 0.0

    def seconds(self, size: int, at: float = 0.0) -> float:
        return (self.batch_s + self.row_s * size) * self.slowness(at)

    def images_per_s(self, at: float = 0.0) -> float:
        return self.devices * max(size / self.seconds(size, at) for size in SIZES)


@dataclass
class Account:
    """What became of the calls of one caller, in images; `took_s` of the calls that were answered in time."""

    asked: int = 0
    useful: int = 0
    took_s: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """What became of all calls.

    useful, run   images that reached a caller in time, and images computed
    late          calls that were computed to the end, but not in time
    dropped       calls that were admitted and then dropped
    """

    useful: int = 0
    run: int = 0
    late: int = 0
    dropped: int = 0
    of: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))


class Rules:
    """The rules of the server."""

    def __init__(self, machine: Machine) -> None:
        self._queue = BatchQueue(BatchingConfig())
        self._pace = Pace()
        self._devices = [Flights() for _ in range(machine.devices)]
        self._running: dict[int, Flight] = {}
        for size in SIZES:
            self._pace.record(size, machine.seconds(size), 0.0)

    def admit(self, work: Work, now: float) -> bool:
        idle = not self._running
        return not self._queue.admit(work, self._forecast(now, at_worst=not idle))

    def late(self, now: float) -> list[Work]:
        works = self._queue.late(now, self._forecast(now, at_worst=False))
        for work in works:
            self._queue.discard(work)
        return works

    def take(self, device: int, now: float) -> list[Slice]:
        slices = self._queue.take(SIZES[-1], self._forecast(now, at_worst=True))
        if slices:
            self._running[device] = self._devices[device].begin(padded(slices), now)
        return slices

    def end(self, device: int, size: int, seconds: float, now: float) -> None:
        self._devices[device].end(self._running.pop(device), now)
        self._pace.record(size, seconds, now)

    def _forecast(self, now: float, *, at_worst: bool) -> Forecast | None:
        return self._pace.forecast(now, SIZES, self._devices, at_worst=at_worst, alone=Pace())


def padded(slices: Sequence[Slice]) -> int:
    rows = sum(piece.rows for piece in slices)
    return next(size for size in SIZES if size >= rows)


def simulate(
    calls: list[Asked], machine: Machine, until: float = INFINITY, make_rules: Callable[[Machine], Rules] = Rules
) -> Outcome:
    """Let the calls come and the devices run until nothing is left, but at most until a time."""
    rules, outcome, chance, numbers = make_rules(machine), Outcome(), random.Random(0), count()
    events = [(call.at, next(numbers), call) for call in calls]
    heapq.heapify(events)
    idle = set(range(machine.devices))
    asked: dict[Work, Asked] = {}
    done: dict[Work, int] = defaultdict(int)

    def dispatch(now: float) -> None:
        for device in sorted(idle):
            outcome.dropped += len(rules.late(now))
            if not (slices := rules.take(device, now)):
                return
            idle.discard(device)
            outcome.run += sum(piece.rows for piece in slices)
            size = padded(slices)
            seconds = machine.seconds(size, now) * math.exp(chance.gauss(0, machine.noise))
            heapq.heappush(events, (now + seconds, next(numbers), (device, size, seconds, slices)))

    def arrive(call: Asked) -> None:
        outcome.of[call.caller].asked += call.rows
        work = Work(call.rows, call.deadline, call.at, None, call.priority, call.caller)
        asked[work] = call
        if rules.admit(work, call.at):
            dispatch(call.at)

    def deliver(slices: list[Slice], now: float) -> None:
        for piece in slices:
            done[piece.work] += piece.rows
            if done[piece.work] == piece.work.rows:
                call = asked[piece.work]
                if now > call.deadline + _ROUNDING_S:
                    outcome.late += 1
                else:
                    outcome.useful += call.rows
                    outcome.of[call.caller].useful += call.rows
                    outcome.of[call.caller].took_s.append(now - call.at)

    while events:
        now, _, event = heapq.heappop(events)
        if now > until:
            break
        if isinstance(event, Asked):
            arrive(event)
        else:
            device, size, seconds, slices = event
            rules.end(device, size, seconds, now)
            idle.add(device)
            deliver(slices, now)
            dispatch(now)
    return outcome
