"""Dynamic batching: rows of many requests become batches.

BatchQueue decides and does nothing: no clock, no event loop, no TensorFlow. Rows (one row: one image) are its unit.

- Work is admitted whole or refused whole; the queue is bounded in rows.
- A batch is taken whenever the device is free and holds what is there, up to `max_batch_size` rows.
- Callers share a batch evenly; what one does not need goes to the others. A call with many rows is spread over many
  batches, and a small one that comes later is in the next batch.
- Callers take turns: those left out of a batch come before those that were in it.
- Interactive work comes first; bulk work gets what it leaves, and the first pick of every eighth batch.
- Rows of cancelled and expired work leave the queue before execution.

DynamicBatcher puts it to work for one loaded model: an event loop brings requests and takes replies, and the thread
of a device that comes free takes its next batch itself.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.batching.pace import MIN_RETRY_S, counted, reason_to_drop, too_late
from progan_service.serving.batching.queue import BatchQueue, Priority, Slice, Work, ceil_div, padded_size
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull, Unavailable
from progan_service.serving.watching.metrics import Metrics

_SMOOTHING = 0.3  # weight of the newest batch in the pace
_UNKNOWN_BATCH_S = 0.1  # before the first


@dataclass(frozen=True)
class Batch:
    """What one run of the model gives: uint8 images [N, R, R, C] and the seconds it took."""

    pixels: NDArray[np.uint8]
    seconds: float


@dataclass(frozen=True)
class Generated:
    """The images [N, R, R, C] of one request; the longest wait of a row, and the time of its batches, in seconds.

    batch_rows   of the largest of these batches, those of other requests included
    """

    pixels: NDArray[np.uint8]
    queue_s: float
    inference_s: float
    batch_rows: int


@dataclass(eq=False)
class _Request:
    """A request on its way: its inputs, the images that are there, and who waits for them."""

    work: Work
    inputs: tuple[NDArray[np.float32], ...]
    done: asyncio.Future[Generated]
    pixels: dict[int, NDArray[np.uint8]] = field(default_factory=dict)  # by their first row
    queue_s: float = 0.0
    inference_s: float = 0.0
    batch_rows: int = 0
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = self.work.rows


_CLOSED = "the server is shutting down; ask another one"


class DeviceOutOfMemoryError(Exception):
    """A batch does not fit into the device's memory; a smaller one may."""


# Starts a batch on one device: inputs [N, ...] of an allowed size, and who gets what comes of it, in any thread.
Run = Callable[[tuple[NDArray[np.float32], ...], Callable[[Batch | Exception], None]], None]


@dataclass(eq=False)
class _Device:
    """A device, and when its batch began; None while it is idle."""

    run: Run
    since: float | None = None


class DynamicBatcher:
    """Runs the requests of one model in shared batches, on whichever device is free.

    Made and used in one event loop, where futures and callers are; the rest is behind a lock, for the devices' threads.
    """

    def __init__(self, runs: Sequence[Run], config: BatchingConfig, metrics: Metrics) -> None:
        self._devices = [_Device(run) for run in runs]
        self._config = config
        self._metrics = metrics
        self._queue = BatchQueue(config)
        self._requests: dict[Work, _Request] = {}
        self._to_retry: deque[list[Slice]] = deque()  # parts of batches that did not fit into memory
        self._most_rows = config.max_batch_size
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()
        self._room = asyncio.Event()  # cleared by who waits for some
        self._room.set()
        self._closed = False
        self._batch_s = 0.0  # smoothed over the last few; 0 before the first

    async def submit(
        self,
        inputs: tuple[NDArray[np.float32], ...],
        deadline: float = float("inf"),
        *,
        flow: object = None,
        priority: Priority = Priority.INTERACTIVE,
        patient: bool = False,
    ) -> Generated:
        """The images of all rows of `inputs` (arrays of equal length), in order.

        deadline   seconds of time.monotonic(); rows not yet run by then are dropped and DeadlineExceeded is raised
        flow       submissions of the same flow take one turn together; None: this one alone
        patient    wait for room in the queue, and do not ask whether the deadline can be met
        Raises QueueFull at once when there is no room or the deadline cannot be met, Unavailable once closed.
        Cancelling drops waiting rows.
        """
        work = Work(len(inputs[0]), deadline, time.monotonic(), flow, priority)
        request = _Request(work, inputs, self._loop.create_future())
        while not self._admit(request, patient):
            await self._room.wait()
        try:
            return await request.done
        except asyncio.CancelledError:
            with self._lock:
                self._drop(work, reason_to_drop(work))
            raise
        finally:
            with self._lock:
                self._requests.pop(work, None)

    @property
    def max_batch_size(self) -> int:
        return self._config.max_batch_size

    @property
    def rows_at_once(self) -> int:
        """What its devices compute at a time, at most."""
        return self.max_batch_size * len(self._devices)

    def queued_rows(self, priority: Priority) -> int:
        return self._queue.rows_of(priority)

    def until_empty_s(self) -> float:
        """About how long it takes until nothing waits any more, if nothing else comes."""
        batches = ceil_div(self._queue.rows, self._config.max_batch_size) / len(self._devices)
        return batches * (self._batch_s or _UNKNOWN_BATCH_S)

    def busy_s(self) -> float:
        """How long the longest of the batches that run now has been running; 0 when none does."""
        with self._lock:
            now = time.monotonic()
            return max((now - device.since for device in self._devices if device.since is not None), default=0.0)

    def close(self) -> None:
        """Refuse new work; what is still here fails with Unavailable."""
        with self._lock:
            self._closed = True
            self._room.set()
            for request in self._requests.values():
                self._fail(request, Unavailable(_CLOSED))

    def _admit(self, request: _Request, patient: bool) -> bool:
        """Queue a request, and give it to a device that is idle. False: the patient have to wait for room.

        Raises Unavailable, DeadlineExceeded or QueueFull.
        """
        work = request.work
        with self._lock:
            if self._closed:
                raise Unavailable(_CLOSED)
            if work.deadline <= time.monotonic():
                self._metrics.rows_dropped.labels("expired").inc(work.rows)
                raise DeadlineExceeded("the deadline passed before the work began")
            if not patient:
                self._check_pace(work)
            if self._queue.put(work):
                self._requests[work] = request
                self._dispatch()
                return True
            if not patient:
                raise self._refusal(
                    work,
                    f"no room for {counted(work.rows)}: {self._queue.rows} wait already, max_queued_rows is "
                    f"{self._config.max_queued_rows}",
                )
            self._room.clear()
            return False

    def _check_pace(self, work: Work) -> None:
        """Raises QueueFull for work that would end after its deadline. An idle device may always show its pace."""
        if any(device.since is None for device in self._devices):
            return
        batches = self._queue.batches_until_done(work.rows, work.priority)
        if problem := too_late(work, batches * self._batch_s / len(self._devices)):
            raise self._refusal(work, problem)

    def _refusal(self, work: Work, message: str) -> QueueFull:
        self._metrics.rows_dropped.labels("rejected").inc(work.rows)
        return QueueFull(message, max(self.until_empty_s(), MIN_RETRY_S))

    def _dispatch(self) -> None:
        """Give every idle device a batch, as far as there are rows."""
        for device in self._devices:
            if device.since is None and not self._closed and (slices := self._next_batch()):
                self._begin(device, slices)

    def _next_batch(self) -> list[Slice]:
        for work in self._queue.expired(time.monotonic()):
            self._drop(work, "expired")
            error = DeadlineExceeded("the deadline passed before the work began")
            self._in_loop(self._fail, self._requests[work], error)
        while self._to_retry:
            parts = [piece for piece in self._to_retry.popleft() if self._is_wanted(piece.work)]
            if parts:
                return parts
        slices = self._queue.take(self._most_rows)
        if slices:
            self._signal_room()
        return slices

    def _is_wanted(self, work: Work) -> bool:
        return work in self._requests and not self._requests[work].done.done()

    def _begin(self, device: _Device, slices: list[Slice]) -> None:
        device.since = started = time.monotonic()
        requests = [self._requests[piece.work] for piece in slices]
        rows = sum(piece.rows for piece in slices)
        size = padded_size(rows, self._config)
        self._metrics.batch_rows.observe(rows)
        self._metrics.batch_padding_rows.inc(size - rows)
        for request in requests:
            wait = started - request.work.queued_at
            request.queue_s = max(request.queue_s, wait)
            request.batch_rows = max(request.batch_rows, rows)
            self._metrics.queue_duration.observe(wait)
        end = partial(self._end, device, slices, requests)
        try:
            inputs = _gather(slices, requests, size)
        except MemoryError as error:
            self._in_loop(end, error)
            return
        device.run(inputs, end)

    def _end(self, device: _Device, slices: list[Slice], requests: list[_Request], outcome: Batch | Exception) -> None:
        """A batch is through: the device gets the next one before anything else happens."""
        with self._lock:
            assert device.since is not None
            seconds, device.since = time.monotonic() - device.since, None
            again = isinstance(outcome, DeviceOutOfMemoryError) and sum(piece.rows for piece in slices) > 1
            if again:
                self._halve(slices)
            elif isinstance(outcome, Batch):
                self._batch_s += (seconds - self._batch_s) * (_SMOOTHING if self._batch_s else 1.0)
            else:
                for request in requests:
                    self._discard(request.work)
            self._dispatch()
        if not again:
            self._in_loop(self._deliver, slices, requests, outcome)

    def _halve(self, slices: list[Slice]) -> None:
        """Run the rows of a batch that did not fit in two parts, and never again so many at once."""
        rows = sum(piece.rows for piece in slices)
        size = padded_size(rows, self._config)
        smaller = [allowed for allowed in self._config.allowed_batch_sizes if allowed < size]
        self._most_rows = min(self._most_rows, smaller[-1] if smaller else 1)
        self._metrics.out_of_memory.inc()
        self._to_retry.extend(_parts(slices, ceil_div(rows, 2)))

    def _deliver(self, slices: list[Slice], requests: list[_Request], batch: Batch | Exception) -> None:
        if isinstance(batch, Exception):  # fails this batch's requests, and no others
            for request in requests:
                self._fail(request, batch)
            return
        offset = 0
        for piece, request in zip(slices, requests, strict=True):
            request.pixels[piece.start] = batch.pixels[offset : offset + piece.rows]
            request.inference_s += batch.seconds
            request.missing -= piece.rows
            offset += piece.rows
            if not request.missing and not request.done.done():
                pixels = [part for _, part in sorted(request.pixels.items())]
                whole = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
                request.done.set_result(Generated(whole, request.queue_s, request.inference_s, request.batch_rows))

    def _drop(self, work: Work, reason: str) -> None:
        self._metrics.rows_dropped.labels(reason).inc(self._discard(work))

    def _discard(self, work: Work) -> int:
        self._signal_room()
        return self._queue.discard(work)

    def _signal_room(self) -> None:
        if not self._room.is_set():
            self._in_loop(self._room.set)

    def _in_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    @staticmethod
    def _fail(request: _Request, error: Exception) -> None:
        if not request.done.done():
            request.done.set_exception(error)


def _parts(slices: list[Slice], rows: int) -> list[list[Slice]]:
    """The same rows in lists of `rows` at most."""
    parts: list[list[Slice]] = [[]]
    room = rows
    for piece in slices:
        start = piece.start
        while start < piece.stop:
            if not room:
                parts.append([])
                room = rows
            stop = min(piece.stop, start + room)
            parts[-1].append(Slice(piece.work, start, stop))
            room -= stop - start
            start = stop
    return parts


def _gather(slices: list[Slice], requests: list[_Request], size: int) -> tuple[NDArray[np.float32], ...]:
    """The rows of a batch, padded to `size` by repeating the first row."""
    gathered = []
    for column in range(len(requests[0].inputs)):
        rows = [
            request.inputs[column][piece.start : piece.stop] for piece, request in zip(slices, requests, strict=True)
        ]
        padding = size - sum(map(len, rows))
        gathered.append(np.concatenate([*rows, np.repeat(rows[0][:1], padding, axis=0)]))
    return tuple(gathered)
