"""Dynamic batching: rows of many requests become batches.

BatchQueue decides and does nothing: no clock, no event loop, no TensorFlow. Rows (one row: one image) are its unit.

- A request is admitted whole or refused whole; the queue is bounded in rows.
- A batch is taken whenever the device is free and holds what is there, up to `max_batch_size` rows.
- Requests share a batch evenly; what one does not need goes to the others. A request with many rows is spread over
  many batches, and a small one that comes later is in the next batch.
- Requests take turns: those left out of a batch come before those that were in it.
- Rows of cancelled and expired requests leave the queue before execution.

DynamicBatcher puts it to work for one loaded model: an event loop owns the queue, `run` gets the batches.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from progan_service.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull, Unavailable
from progan_service.serving.metrics import Metrics


@dataclass(eq=False)
class Work:
    """The rows of one request; `deadline` and `queued_at` in seconds of the caller's clock."""

    rows: int
    deadline: float = float("inf")
    queued_at: float = 0.0
    taken: int = 0

    @property
    def waiting(self) -> int:
        return self.rows - self.taken


@dataclass(frozen=True)
class Slice:
    """Rows start ... stop - 1 of a request, in one batch."""

    work: Work
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class BatchQueue:
    """Work waiting for the device. See the rules at the top of this module."""

    def __init__(self, config: BatchingConfig) -> None:
        self._config = config
        self._works: deque[Work] = deque()
        self.rows = 0

    def put(self, work: Work) -> bool:
        """Admit all rows of a request, or none of them: False when the queue has no room."""
        if self.rows + work.rows > self._config.max_queued_rows:
            return False
        self._works.append(work)
        self.rows += work.rows
        return True

    def discard(self, work: Work) -> int:
        """Forget the rows of a request that are still waiting; how many they were."""
        dropped = work.waiting
        if dropped:
            self._works.remove(work)
            self.rows -= dropped
            work.taken = work.rows
        return dropped

    def expired(self, now: float) -> list[Work]:
        """Requests with waiting rows whose deadline has passed; `discard` them."""
        return [work for work in self._works if work.deadline <= now]

    def take(self) -> list[Slice]:
        """The next batch, at most max_batch_size rows; empty when nothing waits."""
        room = self._config.max_batch_size
        chosen = [self._works.popleft() for _ in range(min(room, len(self._works)))]
        shares: dict[Work, int] = {}
        for place, work in enumerate(sorted(chosen, key=lambda work: work.waiting)):
            shares[work] = min(work.waiting, room // (len(chosen) - place))
            room -= shares[work]
        slices = []
        for work in chosen:
            slices.append(Slice(work, work.taken, work.taken + shares[work]))
            work.taken += shares[work]
            self.rows -= shares[work]
            if work.waiting:
                self._works.append(work)
        return slices


def padded_size(rows: int, config: BatchingConfig) -> int:
    """The smallest allowed batch size that holds `rows`."""
    return next(size for size in config.allowed_batch_sizes if size >= rows)


@dataclass(frozen=True)
class Batch:
    """What one run of the model gives: uint8 images [N, R, R, C] and the seconds it took."""

    pixels: NDArray[np.uint8]
    seconds: float


@dataclass(frozen=True)
class Generated:
    """The images [N, R, R, C] of one request; the longest wait of a row, and the time of its batches, in seconds."""

    pixels: NDArray[np.uint8]
    queue_s: float
    inference_s: float


@dataclass(eq=False)
class _Request:
    """A request on its way: its inputs, the images that are there, and who waits for them."""

    work: Work
    inputs: tuple[NDArray[np.float32], ...]
    done: asyncio.Future[Generated]
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    queue_s: float = 0.0
    inference_s: float = 0.0


_CLOSED = "the server is shutting down; ask another one"

Run = Callable[[tuple[NDArray[np.float32], ...]], Awaitable[Batch]]  # inputs [N, ...] of an allowed size


class DynamicBatcher:
    """Runs the requests of one model in shared batches. Lives in one event loop."""

    def __init__(self, run: Run, config: BatchingConfig, metrics: Metrics) -> None:
        self._run = run
        self._config = config
        self._metrics = metrics
        self._queue = BatchQueue(config)
        self._requests: dict[Work, _Request] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._last_batch_s = 0.1
        self._loop_task = asyncio.create_task(self._serve(), name="batcher")

    async def submit(self, inputs: tuple[NDArray[np.float32], ...], deadline: float = float("inf")) -> Generated:
        """The images of all rows of `inputs` (arrays of equal length), in order.

        deadline   seconds of time.monotonic(); rows not yet run by then are dropped and DeadlineExceeded is raised
        Raises QueueFull at once when there is no room, Unavailable once closed. Cancelling drops waiting rows.
        """
        if self._closed:
            raise Unavailable(_CLOSED)
        work = Work(len(inputs[0]), deadline, queued_at=time.monotonic())
        if deadline <= work.queued_at:
            self._metrics.rows_dropped.labels("expired").inc(work.rows)
            raise DeadlineExceeded("the deadline passed before the work began")
        if not self._queue.put(work):
            self._metrics.rows_dropped.labels("rejected").inc(work.rows)
            raise QueueFull(
                f"no room for {work.rows} images: {self._queue.rows} wait already, max_queued_rows is "
                f"{self._config.max_queued_rows}",
                self._time_to_empty(),
            )
        request = _Request(work, inputs, asyncio.get_running_loop().create_future())
        self._requests[work] = request
        self._wake.set()
        try:
            return await request.done
        except asyncio.CancelledError:
            self._drop(work, "cancelled")
            raise
        finally:
            self._requests.pop(work, None)

    @property
    def queued_rows(self) -> int:
        return self._queue.rows

    def close(self) -> None:
        """Refuse new work; what is still here fails with Unavailable."""
        self._closed = True
        self._loop_task.cancel()
        for request in self._requests.values():
            self._fail(request, Unavailable(_CLOSED))

    def _time_to_empty(self) -> float:
        batches = -(-self._queue.rows // self._config.max_batch_size)
        return max(batches * self._last_batch_s, 0.01)

    async def _serve(self) -> None:
        while True:
            for work in self._queue.expired(time.monotonic()):
                request = self._requests[work]
                self._drop(work, "expired")
                self._fail(request, DeadlineExceeded("the deadline passed before the work began"))
            if slices := self._queue.take():
                await self._run_batch(slices)
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _run_batch(self, slices: list[Slice]) -> None:
        requests = [self._requests[piece.work] for piece in slices]
        started = time.monotonic()
        rows = sum(piece.rows for piece in slices)
        size = padded_size(rows, self._config)
        self._metrics.batch_rows.observe(rows)
        self._metrics.batch_padding_rows.inc(size - rows)
        for request in requests:
            wait = started - request.work.queued_at
            request.queue_s = max(request.queue_s, wait)
            self._metrics.queue_duration.observe(wait)
        try:
            batch = await self._run(_gather(slices, requests, size))
        except Exception as error:  # fails this batch's requests, never the loop
            for request in requests:
                self._queue.discard(request.work)
                self._fail(request, error)
            return
        self._last_batch_s = time.monotonic() - started
        offset = 0
        for piece, request in zip(slices, requests, strict=True):
            request.pixels.append(batch.pixels[offset : offset + piece.rows])
            request.inference_s += batch.seconds
            offset += piece.rows
            if piece.stop == piece.work.rows and not request.done.done():
                pixels = request.pixels[0] if len(request.pixels) == 1 else np.concatenate(request.pixels)
                request.done.set_result(Generated(pixels, request.queue_s, request.inference_s))

    def _drop(self, work: Work, reason: str) -> None:
        self._metrics.rows_dropped.labels(reason).inc(self._queue.discard(work))

    @staticmethod
    def _fail(request: _Request, error: Exception) -> None:
        if not request.done.done():
            request.done.set_exception(error)


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
