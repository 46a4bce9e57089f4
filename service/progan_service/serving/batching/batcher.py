"""Dynamic batching: rows of many requests share batches.

BatchQueue decides which rows are next (see its module for the rules). DynamicBatcher puts it to work for one loaded
version: the event loop brings requests and takes results, and the thread of a device that comes free takes its next
batch itself.
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

from progan_service.serving.batching.device import Batch, DeviceOutOfMemoryError, Run
from progan_service.serving.batching.pace import MIN_RETRY_S, Pace, counted, reason_to_drop, too_late
from progan_service.serving.batching.queue import (
    BatchQueue,
    Priority,
    Slice,
    Work,
    ceil_div,
    in_parts,
    padded_size,
)
from progan_service.serving.batching.sizes import LargestBatch
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull, Unavailable
from progan_service.serving.watching.metrics import Metrics

_UNKNOWN_BATCH_S = 0.1  # the estimate before the first batch

_CLOSED = "the server is shutting down; ask another one"


@dataclass(frozen=True)
class Generated:
    """The images [N, R, R, C] of one request.

    queue_s       the longest wait of a row, in seconds
    inference_s   the time of all batches that held rows of it, in seconds
    batch_rows    rows of the largest of these batches, those of other requests included
    """

    pixels: NDArray[np.uint8]
    queue_s: float
    inference_s: float
    batch_rows: int


@dataclass(eq=False)
class _Request:
    """A request under way: its inputs, the images that are there, and the future of its result.

    queue_s and batch_rows are written under the batcher's lock, the other fields in the event loop only.
    """

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

    def add(self, start: int, pixels: NDArray[np.uint8], seconds: float) -> None:
        """Take the images from row `start` on, out of a batch that took `seconds`. The last complete the result."""
        self.pixels[start] = pixels
        self.inference_s += seconds
        self.missing -= len(pixels)
        if not self.missing and not self.done.done():
            parts = [part for _, part in sorted(self.pixels.items())]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self.done.set_result(Generated(whole, self.queue_s, self.inference_s, self.batch_rows))

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(eq=False)
class _Device:
    """A device, and when its batch began; None while it is idle."""

    run: Run
    since: float | None = None


class DynamicBatcher:
    """Runs the requests of one version in shared batches, on whichever device is free.

    Threads:
    - One event loop makes it and calls `submit` and `close`. Futures and `_room` are set in that loop only: other
      threads reach them through `_in_loop`.
    - A device's thread reports the end of a batch to `_end`, and takes the next batch there.
    - One lock guards the queue, the requests, the retries, the devices' state, the pace and the largest batch. Methods
      named `_locked` need it held. It is reentrant, for a Run may report its outcome before it returns.
    - `queued_rows`, `until_empty_s` and `busy_s` may be called from any thread; the first two take no lock and may lag.
    """

    def __init__(
        self, runs: Sequence[Run], config: BatchingConfig, metrics: Metrics, largest: LargestBatch | None = None
    ) -> None:
        """`largest` chooses among the allowed sizes; by default it begins with the largest of them."""
        self._largest = largest or LargestBatch(config.allowed_batch_sizes)
        self._devices = [_Device(run) for run in runs]
        self._config = config
        self._metrics = metrics
        self._queue = BatchQueue(config)
        self._requests: dict[Work, _Request] = {}
        self._retries: deque[list[Slice]] = deque()  # parts of batches that did not fit into memory
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()
        self._room = asyncio.Event()  # cleared by a request that waits for room
        self._room.set()
        self._closed = False
        self._pace = Pace()

    async def submit(
        self,
        inputs: tuple[NDArray[np.float32], ...],
        deadline: float = float("inf"),
        *,
        flow: object = None,
        priority: Priority = Priority.INTERACTIVE,
        patient: bool = False,
    ) -> Generated:
        """Return the images of all rows of `inputs` (arrays of equal length), in order.

        deadline   seconds of time.monotonic(); rows not yet run by then are dropped and DeadlineExceeded is raised
        flow       submissions of the same flow take one turn together; None: this one alone
        patient    wait for room in the queue, and do not ask whether the deadline can be met
        Raises QueueFull at once when there is no room or the deadline cannot be met, Unavailable once closed.
        Cancelling drops the rows that wait.
        """
        work = Work(len(inputs[0]), deadline, time.monotonic(), flow, priority)
        request = _Request(work, inputs, self._loop.create_future())
        while not self._admit(request, patient):
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

    def queued_rows(self, priority: Priority) -> int:
        return self._queue.rows_of(priority)

    def until_empty_s(self) -> float:
        """Estimate the seconds until the queue is empty, if nothing else comes."""
        batches = ceil_div(self._queue.rows, self.max_batch_size) / len(self._devices)
        return batches * (self._batch_s() or _UNKNOWN_BATCH_S)

    def _batch_s(self) -> float:
        return self._pace.seconds(self.max_batch_size)

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

    def _admit(self, request: _Request, patient: bool) -> bool:
        """Queue a request and start idle devices. Return False if there is no room and the request is patient.

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
                self._check_pace_locked(work)
            if self._queue.put(work):
                self._requests[work] = request
                self._dispatch_locked()
                return True
            if not patient:
                raise self._refusal(
                    work,
                    f"no room for {counted(work.rows)}: {self._queue.rows} wait already, max_queued_rows is "
                    f"{self._config.max_queued_rows}",
                )
            self._room.clear()
            return False

    def _check_pace_locked(self, work: Work) -> None:
        """Raise QueueFull if the work would end after its deadline. An idle device always gets work, to be measured."""
        if any(device.since is None for device in self._devices):
            return
        batches = self._queue.batches_until_done(work.rows, work.priority, self.max_batch_size)
        if problem := too_late(work, batches * self._batch_s() / len(self._devices)):
            raise self._refusal(work, problem)

    def _refusal(self, work: Work, message: str) -> QueueFull:
        self._metrics.rows_dropped.labels("rejected").inc(work.rows)
        return QueueFull(message, max(self.until_empty_s(), MIN_RETRY_S))

    def _dispatch_locked(self) -> None:
        """Give every idle device a batch, as long as there are rows."""
        for device in self._devices:
            if device.since is None and not self._closed and (slices := self._next_batch_locked()):
                self._begin_locked(device, slices)

    def _next_batch_locked(self) -> list[Slice]:
        for work in self._queue.expired(time.monotonic()):
            self._drop_locked(work, "expired")
            error = DeadlineExceeded("the deadline passed before the work began")
            self._in_loop(self._requests[work].fail, error)
        while self._retries:
            parts = [piece for piece in self._retries.popleft() if self._is_wanted_locked(piece.work)]
            if parts:
                return parts
        slices = self._queue.take(self._largest.next(self._queue.rows))
        if slices:
            self._signal_room_locked()
        return slices

    def _is_wanted_locked(self, work: Work) -> bool:
        return work in self._requests and not self._requests[work].done.done()

    def _begin_locked(self, device: _Device, slices: list[Slice]) -> None:
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
        """Take the outcome of a batch, in any thread. The device gets its next batch before anything else happens."""
        with self._lock:
            assert device.since is not None
            seconds, device.since = time.monotonic() - device.since, None
            retry = isinstance(outcome, DeviceOutOfMemoryError) and sum(piece.rows for piece in slices) > 1
            if retry:
                self._halve_locked(slices)
            elif isinstance(outcome, Batch):
                self._pace.record(len(outcome.pixels), seconds)
                self._largest.record(len(outcome.pixels), outcome.seconds)
            else:
                for request in requests:
                    self._discard_locked(request.work)
            self._dispatch_locked()
        if not retry:
            self._in_loop(_deliver, slices, requests, outcome)

    def _halve_locked(self, slices: list[Slice]) -> None:
        """Run a batch that did not fit in two parts, and never again so many rows at once."""
        rows = sum(piece.rows for piece in slices)
        self._largest.exclude(padded_size(rows, self._config))
        self._metrics.out_of_memory.inc()
        self._retries.extend(in_parts(slices, ceil_div(rows, 2)))

    def _drop_locked(self, work: Work, reason: str) -> None:
        self._metrics.rows_dropped.labels(reason).inc(self._discard_locked(work))

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


def _deliver(slices: list[Slice], requests: list[_Request], outcome: Batch | Exception) -> None:
    """Hand the images of a batch to its requests; a failure fails these requests and no others. In the event loop."""
    if isinstance(outcome, Exception):
        for request in requests:
            request.fail(outcome)
        return
    offset = 0
    for piece, request in zip(slices, requests, strict=True):
        request.add(piece.start, outcome.pixels[offset : offset + piece.rows], outcome.seconds)
        offset += piece.rows


def _gather(slices: list[Slice], requests: list[_Request], size: int) -> tuple[NDArray[np.float32], ...]:
    """Return the rows of a batch, padded to `size` by repeating the first row."""
    gathered = []
    for column in range(len(requests[0].inputs)):
        rows = [
            request.inputs[column][piece.start : piece.stop] for piece, request in zip(slices, requests, strict=True)
        ]
        padding = size - sum(map(len, rows))
        gathered.append(np.concatenate([*rows, np.repeat(rows[0][:1], padding, axis=0)]))
    return tuple(gathered)
