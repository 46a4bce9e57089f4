"""Dynamic batching: rows of many requests share batches.

BatchQueue decides which rows are next (see its module for the rules). DynamicBatcher puts it to work for one loaded
version: the event loop brings requests and takes results, and the thread of a device that comes free takes its next
batch itself.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError, Run
from progan_service.serving.batching.pace import MIN_RETRY_S, Pace, reason_to_drop
from progan_service.serving.batching.queue import BatchQueue
from progan_service.serving.batching.request import Generated, Request, deliver, gather
from progan_service.serving.batching.sizes import LargestBatch
from progan_service.serving.batching.work import Priority, Slice, Work, ceil_div, in_parts
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull, Unavailable
from progan_service.serving.watching.metrics import Metrics

_UNKNOWN_BATCH_S = 0.1  # the estimate before the first batch

_MOST_LAG = 1 / 4  # of a call's time: only a batch can correct a lag that is estimated too long
_EXPIRED = "the deadline passed before the work began"
_TOO_SLOW = "the deadline cannot be met any more: the device has become slower"
_CLOSED = "the server is shutting down; ask another one"


@dataclass(eq=False)
class _Device:
    """A device, the padded size of the batch that it runs, and when that began; None while it is idle."""

    run: Run
    since: float | None = None
    size: int = 0


class DynamicBatcher:
    """Runs the requests of one version in shared batches, on whichever device is free.

    Threads:
    - One event loop makes it and calls `submit` and `close`. Futures, `_room` and `_lag` are set in that loop only:
      other threads reach them through `_in_loop`.
    - A device's thread reports the end of a batch to `_end`, and takes the next batch there.
    - One lock guards the queue, the requests, the retries, the devices' state, the pace and the largest batch. Methods
      named `_locked` need it held. It is reentrant, for a Run may report its outcome before it returns.
    - `queued_rows`, `until_empty_s`, `images_per_s` and `busy_s` may be called from any thread; only the last one takes
      the lock, the others may lag.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        config: BatchingConfig,
        metrics: Metrics,
        model: str,
        largest: LargestBatch | None = None,
    ) -> None:
        """`largest` chooses among the allowed sizes; by default it begins with the largest of them."""
        self._model = model
        self._largest = largest or LargestBatch(config.allowed_batch_sizes)
        self._devices = [_Device(run) for run in runs]
        self._config = config
        self._metrics = metrics
        self._queue = BatchQueue(config)
        self._requests: dict[Work, Request] = {}
        self._retries: deque[list[Slice]] = deque()  # parts of batches that did not fit into memory
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()
        self._room = asyncio.Event()  # cleared by a request that waits for room
        self._room.set()
        self._closed = False
        self._pace = Pace()
        self._lag = Pace()  # from the end of a batch until the event loop has its images; used in that loop only

    async def submit(
        self,
        inputs: tuple[NDArray[Any], ...],
        deadline: float = float("inf"),
        *,
        flow: object = None,
        caller: str = "",
        priority: Priority = Priority.INTERACTIVE,
        patient: bool = False,
    ) -> Generated:
        """Return the images of all rows of `inputs` (arrays of equal length), in order.

        deadline   seconds of time.monotonic(); rows not yet run by then are dropped and DeadlineExceeded is raised. The
                   images are to be there a little earlier, by as much as the event loop was late with others.
        flow       submissions of the same flow are one call; None: this one alone
        caller     callers share the devices evenly
        patient    wait for room in the queue, and do not ask whether the deadline can be met
        Raises QueueFull at once when there is no room or the deadline cannot be met, and later if the device has become
        so slow that it cannot be met any more. Raises Unavailable once closed. Cancelling drops the rows that wait.
        """
        now = time.monotonic()
        due = deadline - min(self._lag.seconds_at_worst(1), (deadline - now) * _MOST_LAG)
        work = Work(len(inputs[0]), due, now, flow, priority, caller, patient, self._model)
        request = Request(work, inputs, self._loop.create_future())
        while not self._admit(request):
            await self._room.wait()
        try:
            return await request.done
        except asyncio.CancelledError:
            with self._lock:
                self._drop_locked(work, reason_to_drop(work))
            raise
        finally:
            with self._lock:
                self._requests.pop(work, None)

    @property
    def max_batch_size(self) -> int:
        """The largest batch size in use. It follows what batches take. May be called from any thread."""
        return self._largest.rows

    @property
    def rows_at_once(self) -> int:
        """The most rows that all devices together compute at a time, a trial of the next larger size included."""
        with self._lock:
            return self._largest.tried * len(self._devices)

    @property
    def images_per_s(self) -> float:
        """Return what all devices together can compute in large batches, as measured lately; 0 if it never was."""
        return self._largest.images_per_s * len(self._devices)

    def queued_rows(self, priority: Priority) -> int:
        return self._queue.rows_of(priority)

    def until_empty_s(self) -> float:
        """Estimate the seconds until the queue is empty, if nothing else comes."""
        return self._seconds_for(self._queue.rows)

    def busy_s(self) -> float:
        """Return how long the oldest batch that still runs has been running, in seconds; 0 when none runs."""
        with self._lock:
            now = time.monotonic()
            return max((now - device.since for device in self._devices if device.since is not None), default=0.0)

    def close(self) -> None:
        """Refuse new work. What is queued or runs fails with Unavailable."""
        with self._lock:
            self._closed = True
            self._room.set()
            for request in self._requests.values():
                request.fail(Unavailable(_CLOSED))

    def _admit(self, request: Request) -> bool:
        """Queue a request and start idle devices. Return False if there is no room and the request is patient.

        Raises Unavailable, DeadlineExceeded or QueueFull.
        """
        work = request.work
        with self._lock:
            if self._closed:
                raise Unavailable(_CLOSED)
            now = time.monotonic()
            if work.deadline <= now:
                self._metrics.rows_dropped.labels(self._model, "expired").inc(work.rows)
                raise DeadlineExceeded(_EXPIRED)
            if self._start_at_once_locked(request, now):
                return True
            if refusal := self._queue.admit(work, self._forecast_locked(now, at_worst=not self._is_idle_locked())):
                if work.patient:
                    self._room.clear()
                    return False
                self._metrics.rows_dropped.labels(self._model, "rejected").inc(work.rows)
                raise QueueFull(refusal.message, self._seconds_for(refusal.rows))
            self._requests[work] = request
            self._dispatch_locked()
            return True

    def _start_at_once_locked(self, request: Request, now: float) -> bool:
        """Run a small request that is alone, if it can be in time, as the rules of the queue would decide."""
        work, idle = request.work, next((device for device in self._devices if device.since is None), None)
        if not idle or self._queue.rows or self._retries or work.rows >= self.max_batch_size:
            return False
        if now + self._pace.seconds(self._padded(work.rows)) > work.deadline:
            return False
        self._largest.next(work.rows)
        self._requests[work] = request
        self._begin_locked(idle, [self._queue.pass_by(work)])
        return True

    def _forecast_locked(self, now: float, most_rows: int = 0, *, at_worst: bool) -> Forecast | None:
        """Return what the devices can do in batches of up to `most_rows`, by default of the size in use."""
        allowed, most_rows = self._config.allowed_batch_sizes, most_rows or self.max_batch_size
        sizes = allowed if most_rows == allowed[-1] else tuple(size for size in allowed if size <= most_rows)
        running = [None if device.since is None else (device.size, device.since) for device in self._devices]
        return self._pace.forecast(now, sizes, running, at_worst=at_worst)

    def _is_idle_locked(self) -> bool:
        return all(device.since is None for device in self._devices)

    def _seconds_for(self, rows: float) -> float:
        """Estimate how long so many rows take."""
        batches = math.ceil(rows / self.rows_at_once)
        return max(batches * (self._pace.seconds(self.max_batch_size) or _UNKNOWN_BATCH_S), MIN_RETRY_S)

    def _dispatch_locked(self) -> None:
        """Give every idle device a batch, as long as there are rows."""
        for device in self._devices:
            if device.since is None and not self._closed and (slices := self._next_batch_locked()):
                self._begin_locked(device, slices)

    def _next_batch_locked(self) -> list[Slice]:
        if not self._queue.rows and not self._retries:
            return []
        now = time.monotonic()
        self._drop_late_locked(now)
        while self._retries:
            parts = [piece for piece in self._retries.popleft() if self._is_wanted_locked(piece.work)]
            if parts:
                return parts
        most_rows = self._largest.next(self._queue.rows)
        slices = self._queue.take(most_rows, self._forecast_locked(now, most_rows, at_worst=True))
        if slices:
            self._signal_room_locked()
        return slices

    def _drop_late_locked(self, now: float) -> None:
        """Drop the works that cannot be in time any more."""
        for work in self._queue.late(now, self._forecast_locked(now, at_worst=False)):
            fail = self._requests[work].fail
            if work.patient or work.deadline <= now:
                self._drop_locked(work, "expired")
                self._in_loop(fail, DeadlineExceeded(_EXPIRED))
            else:
                self._drop_locked(work, "rejected")
                self._in_loop(fail, QueueFull(_TOO_SLOW, self._seconds_for(work.rows)))

    def _is_wanted_locked(self, work: Work) -> bool:
        return work in self._requests and not self._requests[work].done.done()

    def _begin_locked(self, device: _Device, slices: list[Slice]) -> None:
        device.since = started = time.monotonic()
        requests = [self._requests[piece.work] for piece in slices]
        rows = sum(piece.rows for piece in slices)
        size = device.size = self._padded(rows)
        self._metrics.batch_rows.observe(rows)
        self._metrics.batch_padding_rows.inc(size - rows)
        for request in requests:
            wait = started - request.work.queued_at
            request.queue_s = max(request.queue_s, wait)
            request.batch_rows = max(request.batch_rows, rows)
            self._metrics.queue_duration.labels(self._model, request.work.priority.label).observe(wait)
        end = partial(self._end, device, slices, requests)
        try:
            inputs = gather(slices, requests, size)
        except MemoryError as error:
            self._in_loop(end, error)
            return
        device.run(inputs, end)

    def _end(self, device: _Device, slices: list[Slice], requests: list[Request], outcome: Batch | Exception) -> None:
        """Take the outcome of a batch, in any thread. The device gets its next batch before anything else happens."""
        with self._lock:
            assert device.since is not None
            now = time.monotonic()
            seconds, device.since = now - device.since, None
            retry = isinstance(outcome, DeviceOutOfMemoryError) and sum(piece.rows for piece in slices) > 1
            if retry:
                self._halve_locked(slices)
            elif isinstance(outcome, Batch):
                self._pace.record(len(outcome.pixels), seconds, now)
                self._largest.record(len(outcome.pixels), outcome.seconds)
            else:
                for request in requests:
                    self._discard_locked(request.work)
            self._dispatch_locked()
        if not retry:
            self._in_loop(self._deliver, now, slices, requests, outcome)

    def _deliver(self, ended: float, slices: list[Slice], requests: list[Request], outcome: Batch | Exception) -> None:
        now = time.monotonic()
        self._lag.record(1, now - ended, now)
        deliver(slices, requests, outcome)

    def _halve_locked(self, slices: list[Slice]) -> None:
        """Run a batch that did not fit in two parts, and never again so many rows at once."""
        rows = sum(piece.rows for piece in slices)
        self._largest.exclude(self._padded(rows))
        self._metrics.out_of_memory.labels(self._model).inc()
        self._retries.extend(in_parts(slices, ceil_div(rows, 2)))

    def _padded(self, rows: int) -> int:
        """Return the smallest allowed batch size that holds `rows`."""
        return next(size for size in self._config.allowed_batch_sizes if size >= rows)

    def _drop_locked(self, work: Work, reason: str) -> None:
        if self._requests.pop(work, None):  # else it was dropped before
            self._metrics.rows_wasted.labels(self._model).inc(work.taken)
            self._metrics.rows_dropped.labels(self._model, reason).inc(self._discard_locked(work))

    def _discard_locked(self, work: Work) -> int:
        self._signal_room_locked()
        return self._queue.discard(work)

    def _signal_room_locked(self) -> None:
        """Wake the requests that wait for room."""
        if not self._room.is_set():
            self._in_loop(self._room.set)

    def _in_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        """Have the event loop call `callback`, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the result any more
            self._loop.call_soon_threadsafe(callback, *arguments)
