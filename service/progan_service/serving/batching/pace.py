"""Estimates of how long a batch or a file takes."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.flights import Flights, Seconds
from progan_service.serving.batching.work import Work
from progan_service.serving.watching.calls import ran_out_of_time

MIN_RETRY_S = 0.01

_KEPT = 5  # measurements of each size
_STALE_S = 1.0


class Pace:
    """How long a batch takes, by its padded size. The last five measurements of a size count.

    Two of five may be far off, as when the machine was busy with something else for a moment. A lasting change is
    believed after three batches.

    Only a thread that holds the owner's lock records. Any thread may read.
    """

    def __init__(self) -> None:
        self._measured: dict[int, deque[float]] = {}
        self._usual: dict[int, float] = {}  # by size
        self._at_worst: dict[int, float] = {}
        self._measured_at = float("-inf")
        self._estimates: dict[tuple[tuple[int, ...], bool], tuple[float, ...]] = {}  # since the last measurement

    def record(self, size: int, seconds: float, now: float) -> None:
        """Note that a batch of `size` rows, padding included, took so long and ended now."""
        measured = self._measured.setdefault(size, deque(maxlen=_KEPT))
        measured.append(seconds)
        in_order = sorted(measured)
        self._usual[size] = in_order[len(in_order) // 2]
        self._at_worst[size] = in_order[len(in_order) * 3 // 4]
        self._measured_at = now
        self._estimates.clear()

    def seconds(self, size: int) -> float:
        """Return the median time of a batch of this size; 0 before the first batch of any size."""
        return _estimate(size, self._usual)

    def seconds_at_worst(self, size: int) -> float:
        """Return the time that four of the last five batches of this size kept; 0 before the first of any size."""
        return _estimate(size, self._at_worst)

    def forecast(
        self,
        now: float,
        sizes: tuple[int, ...],
        devices: Sequence[Flights],
        *,
        at_worst: bool,
        alone: "Pace",
    ) -> Forecast | None:
        """Return what the devices can do from `now` on.

        None: unknown, for no batch has been run, or none for a second. A call that comes then is let in, to measure.

        sizes      of batches, rising
        devices    what each has in flight; one with fewer batches in flight gets the next one
        at_worst   estimate by the time that most batches kept, else by the usual one
        alone      how long batches take that no other overlaps; empty where none ever overlap
        """
        if not self._measured or (now - self._measured_at > _STALE_S and not any(map(len, devices))):
            return None
        seconds = self._time(at_worst)
        if (sizes, at_worst) not in self._estimates:
            falling = accumulate(map(seconds, reversed(sizes)), min)  # a batch takes no longer than a larger one
            self._estimates[sizes, at_worst] = tuple(falling)[::-1]
        alone_s = alone._time(at_worst)
        free_at = sorted((len(device), device.free_at(now, seconds, alone_s)) for device in devices)
        not_before = {size: now + alone_s(size) for size in sizes} if alone_s(sizes[-1]) else {}
        return Forecast(tuple(at for _, at in free_at), sizes, self._estimates[sizes, at_worst], not_before)

    def _time(self, at_worst: bool) -> Seconds:
        return self.seconds_at_worst if at_worst else self.seconds


def _estimate(size: int, known: Mapping[int, float]) -> float:
    """A size not measured yet takes as long as the next larger one, or longer by its rows than the next smaller."""
    if size in known:
        return known[size]
    if not known:
        return 0.0
    nearest = min((other for other in known if other > size), default=max(known))
    return known[nearest] * max(1.0, size / nearest)


def reason_to_drop(work: Work) -> str:
    """Return why work that is cancelled was dropped: its call expired, or was cancelled by its caller."""
    return "expired" if ran_out_of_time(work.deadline) else "cancelled"
