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
from functools import partial
from typing import Any

from numpy.typing import NDArray

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.device import Batch, Device, DeviceOutOfMemoryError, Run
from progan_service.serving.batching.flights import Flight
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


class DynamicBatcher:
    """Runs the requests of one version in shared batches, on whichever device is free.

    A device may have two batches in flight, so that one is copied while the other is computed. The second one must be
    full: fewer rows wait for the end of the first one, because others may still join them.

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
        in_flight: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Serve with these devices.

        largest     chooses among the allowed sizes; by default it begins with the largest of them
        in_flight   the most batches that a device has at a time, 1 or 2
        """
        self._model = model
        self._largest = largest or LargestBatch(config.allowed_batch_sizes, may_try=in_flight == 1)
        self._in_flight = in_flight
        self._clock = clock
        self._devices = [Device(run) for run in runs]
        self._config = config
        self._metrics = metrics
        self._queue = BatchQueue(config)
        self._requests: dict[Work, Request] = {}
        self._retries: deque[list[Slice]] = deque()  # what did not fit into memory, to be run again
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()
        self._room = asyncio.Event()  # cleared by a request that waits for room
        self._room.set()
        self._closed = False
        self._pace = Pace()  # how long a batch keeps its device busy
        self._alone = Pace()  # from beginning to end, of batches that no other overlaps; empty with one in flight
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
        now = self._clock()
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
        """The most rows that all devices together have in flight, a trial of the next larger size included."""
        with self._lock:
            return self._largest.tried * len(self._devices) * self._in_flight

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
            now = self._clock()
            return max((now - batch.since for device in self._devices for batch in device.flights.batches), default=0.0)

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
            now = self._clock()
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
        work, idle = request.work, next((device for device in self._devices if not device.flights), None)
        if not idle or self._queue.rows or self._retries or work.rows >= self.max_batch_size:
            return False
        size = self._padded(work.rows)
        if now + (self._alone.seconds(size) or self._pace.seconds(size)) > work.deadline:
            return False
        self._largest.next(work.rows)
        self._requests[work] = request
        self._begin_locked(idle, [self._queue.pass_by(work)])
        return True

    def _forecast_locked(self, now: float, most_rows: int = 0, *, at_worst: bool) -> Forecast | None:
        """Return what the devices can do in batches of up to `most_rows`, by default of the size in use."""
        allowed, most_rows = self._config.allowed_batch_sizes, most_rows or self.max_batch_size
        sizes = allowed if most_rows == allowed[-1] else tuple(size for size in allowed if size <= most_rows)
        flights = [device.flights for device in self._devices]
        return self._pace.forecast(now, sizes, flights, at_worst=at_worst, alone=self._alone)

    def _is_idle_locked(self) -> bool:
        return not any(device.flights for device in self._devices)

    def _seconds_for(self, rows: float) -> float:
        """Estimate how long so many rows take."""
        batches = math.ceil(rows * self._in_flight / self.rows_at_once)
        return max(batches * (self._pace.seconds(self.max_batch_size) or _UNKNOWN_BATCH_S), MIN_RETRY_S)

    def _dispatch_locked(self) -> None:
        """Give the devices batches, as long as there are rows and a device is free."""
        while not self._closed and (device := self._free_device_locked()) and (slices := self._next_batch_locked()):
            self._begin_locked(device, slices)

    def _free_device_locked(self) -> Device | None:
        """Return an idle device, or one that a full batch may overlap; None if there is none."""
        device = min(self._devices, key=lambda each: len(each.flights))
        is_full = self._queue.rows >= self.max_batch_size and not self._retries
        return device if len(device.flights) < (self._in_flight if is_full else 1) else None

    def _next_batch_locked(self) -> list[Slice]:
        if not self._queue.rows and not self._retries:
            return []
        now = self._clock()
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

    def _begin_locked(self, device: Device, slices: list[Slice]) -> None:
        started = self._clock()
        requests = [self._requests[piece.work] for piece in slices]
        rows = sum(piece.rows for piece in slices)
        size = self._padded(rows)
        flight = device.flights.begin(size, started)
        self._metrics.batch_rows.observe(rows)
        self._metrics.batch_padding_rows.inc(size - rows)
        for request in requests:
            wait = started - request.work.queued_at
            request.queue_s = max(request.queue_s, wait)
            request.batch_rows = max(request.batch_rows, rows)
            self._metrics.queue_duration.labels(self._model, request.work.priority.label).observe(wait)
        end = partial(self._end, device, flight, slices, requests)
        try:
            inputs = gather(slices, requests, size)
        except MemoryError as error:
            self._in_loop(end, error)
            return
        device.run(inputs, end)

    def _end(
        self,
        device: Device,
        flight: Flight,
        slices: list[Slice],
        requests: list[Request],
        outcome: Batch | Exception,
    ) -> None:
        """Take the outcome of a batch, in any thread. The device gets its next batch before anything else happens."""
        with self._lock:
            now = self._clock()
            share_s = device.flights.end(flight, now)
            retry = isinstance(outcome, DeviceOutOfMemoryError) and self._retry_locked(flight, slices)
            if isinstance(outcome, Batch):
                self._pace.record(flight.size, share_s, now)
                self._largest.record(flight.size, outcome.seconds if flight.alone else min(share_s, outcome.seconds))
                if flight.alone and self._in_flight > 1:
                    self._alone.record(flight.size, now - flight.since, now)
            elif not retry:
                for request in requests:
                    self._discard_locked(request.work)
            self._dispatch_locked()
        if not retry:
            self._in_loop(self._deliver, now, slices, requests, outcome)

    def _deliver(self, ended: float, slices: list[Slice], requests: list[Request], outcome: Batch | Exception) -> None:
        now = self._clock()
        self._lag.record(1, now - ended, now)
        deliver(slices, requests, outcome)

    def _retry_locked(self, flight: Flight, slices: list[Slice]) -> bool:
        """Run a batch that did not fit again, and return True, unless it was a single row that was alone.

        If another overlapped it, none may overlap from now on. Else it is run in two parts, and so many rows never
        again.
        """
        rows = sum(piece.rows for piece in slices)
        if flight.alone and rows == 1:
            return False
        self._metrics.out_of_memory.labels(self._model).inc()
        if flight.alone:
            self._largest.exclude(flight.size)
            self._retries.extend(in_parts(slices, ceil_div(rows, 2)))
        else:
            self._in_flight, self._alone = 1, Pace()
            self._retries.append(slices)
        return True

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
