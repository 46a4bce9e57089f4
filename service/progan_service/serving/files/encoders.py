"""Pixels become files: the stage after the device, with rules like those of batching.

- The rows of a call that wants files count from admission to their last file. They are admitted whole or refused whole:
  a fast device cannot pile up images in front of slow encoders.
- Who is let in, and whose image is next, is decided by the rules of batching/queue.py, as at the device.
- Images of cancelled and expired calls are not encoded.
- Calls that want raw pixels never come here.
"""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.pace import MIN_RETRY_S, Pace, reason_to_drop
from progan_service.serving.batching.queue import UNBOUNDED, BatchQueue
from progan_service.serving.batching.work import Priority, Slice, Work, counted
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics


@dataclass(eq=False)
class _Order:
    """Images that are to become files, the files that are there, and the future of the result.

    `missing` is guarded by the encoders' lock. Each place of `files` is written by one thread.
    """

    encode: Callable[[int], bytes]
    files: list[bytes]
    missing: int
    done: asyncio.Future[list[bytes]]

    def end(self, error: Exception | None = None) -> None:
        """Complete the result, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the result any more
            self.done.get_loop().call_soon_threadsafe(self._complete, error)

    def _complete(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(self.files)


class Encoders:
    """A pool of threads that encode, and the queue in front of it.

    Threads:
    - One event loop calls `room`, `encode` and `close`. The encode queues of the versions and `_room` are touched in
      that loop only.
    - The threads of the pool take images from the queue (`_run`) until it is empty.
    - One lock guards the queue, the orders, the number of running threads and the pace. It is held for moments, never
      while an image is encoded.
    - `queued_rows` may be called from any thread; it takes no lock and may lag. So may the estimates.
    """

    def __init__(self, threads: int, config: BatchingConfig, metrics: Metrics) -> None:
        self._threads = threads
        self._max_queued_rows = config.max_queued_rows
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._lock = threading.Lock()
        self._queue = BatchQueue(UNBOUNDED)
        self._orders: dict[Work, _Order] = {}
        self._running = 0  # threads that are in _run
        self._pace = Pace()
        self._room = asyncio.Event()  # cleared by a call that waits for room

    @asynccontextmanager
    async def room(self, version: LoadedVersion, work: Work) -> AsyncIterator[None]:
        """Hold room for the rows of `work` until the block ends: their files must be there by then.

        Patient work waits for room. Raises QueueFull at once when other work finds none, or its deadline cannot be met.
        """
        queue, at_once = version.encode_queue, version.batcher.rows_at_once  # rows on the devices do not wait
        # Rows leave one by one: a call of up to a batch goes in at the first free place, or it might wait for ever.
        needed = 1 if work.rows <= at_once else work.rows
        while queue.rows + needed > self._max_queued_rows + at_once:
            if not work.patient:
                raise self._refusal(
                    version,
                    work,
                    f"no room for {counted(work.rows)}: the files of {queue.rows} are not ready yet, "
                    f"max_queued_rows is {self._max_queued_rows}",
                )
            self._room.clear()
            await self._room.wait()
        # A lone call is always tried, to measure the pace.
        forecast = self._forecast(self._threads, self._pace.seconds_at_worst(1)) if queue.rows else None
        if refusal := queue.admit(work, forecast):
            raise self._refusal(version, work, refusal.message)
        try:
            yield
        finally:
            queue.discard(work)
            self._room.set()

    async def encode(self, work: Work, encode: Callable[[int], bytes]) -> list[bytes]:
        """Return the files of all rows of `work`, in order. `encode` makes the file of one row, in a thread.

        Raises what `encode` raises, and DeadlineExceeded. Cancelling drops the images that wait.
        """
        done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._orders[work] = _Order(encode, [b""] * work.rows, work.rows, done)
            self._queue.admit(work)
            starting = min(work.rows, self._threads - self._running)
            self._running += starting
        try:
            for _ in range(starting):
                self._pool.submit(self._run)
            return await done
        except asyncio.CancelledError:
            with self._lock:
                self._metrics.rows_dropped.labels(work.model, reason_to_drop(work)).inc(self._queue.discard(work))
            raise
        finally:
            with self._lock:
                del self._orders[work]

    def pixels_due(self, work: Work) -> float:
        """Return when the pixels of a call must be there, so that its files are there by its deadline.

        At most half of its time is for the files. A wrong estimate must not end a call: only a file can correct it.
        """
        return work.deadline - min(self._expected_s(work.rows), work.left_s / 2)

    def queued_rows(self, priority: Priority) -> int:
        return self._queue.rows_of(priority)

    def close(self) -> None:
        """End the threads after the images that they are encoding."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _refusal(self, version: LoadedVersion, work: Work, message: str) -> QueueFull:
        self._metrics.rows_dropped.labels(work.model, "rejected").inc(work.rows)
        slowest_s = max(version.batcher.until_empty_s(), self._expected_s(version.encode_queue.rows))
        return QueueFull(message, max(slowest_s, MIN_RETRY_S))

    def _expected_s(self, rows: int) -> float:
        """Estimate how long the files of so many rows take, if all threads encode them. May lag."""
        return math.ceil(rows / self._threads) * self._pace.seconds(1)

    def _forecast(self, files: int, seconds: float) -> Forecast | None:
        """Return the forecast that so many files are encoded every so many seconds; None if that is unknown."""
        return Forecast((time.monotonic(),), (files,), (seconds,)) if seconds else None

    def _run(self) -> None:
        """Encode image after image until the queue is empty. In a thread of the pool."""
        while found := self._next():
            piece, order = found
            started = time.monotonic()
            try:
                order.files[piece.start] = order.encode(piece.start)
            except Exception as error:
                with self._lock:
                    self._queue.discard(piece.work)
                order.end(error)
            else:
                self._count(order, time.monotonic() - started)

    def _next(self) -> tuple[Slice, _Order] | None:
        """Take the next image; None, with one thread less running, if there is none."""
        with self._lock:
            pace_s = self._pace.seconds_at_worst(1) / self._threads
            while pieces := self._queue.take(1, self._forecast(1, pace_s)):
                (piece,) = pieces
                order = self._orders[piece.work]
                if piece.work.deadline > time.monotonic():
                    return piece, order
                dropped = piece.rows + self._queue.discard(piece.work)
                self._metrics.rows_dropped.labels(piece.work.model, "expired").inc(dropped)
                order.end(DeadlineExceeded("the deadline passed before the images were encoded"))
            self._running -= 1
            return None

    def _count(self, order: _Order, seconds: float) -> None:
        with self._lock:
            self._pace.record(1, seconds, time.monotonic())
            order.missing -= 1
            if not order.missing:
                order.end()
