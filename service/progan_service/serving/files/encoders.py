"""Pixels become files: the stage after the device, with rules like those of batching.

- The rows of a call that wants files count from the door to their last file, and are admitted whole or refused whole:
  a fast device cannot pile up images before slow encoders.
- Callers take turns, image by image, and interactive work comes first, as at the device.
- Images whose callers have gone, or whose deadlines have passed, are not encoded.
- Calls that want the pixels themselves have nothing to do with all this.
"""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from progan_service.serving.batching.pace import MIN_RETRY_S, counted, reason_to_drop, too_late
from progan_service.serving.batching.queue import ONE_BY_ONE, BatchQueue, Priority, Slice, Work
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics

_SMOOTHING = 0.1  # weight of the newest file in the pace


@dataclass(eq=False)
class _Order:
    """Images that are to become files, the files that are there, and who waits for them."""

    encode: Callable[[int], bytes]
    files: list[bytes]
    missing: int
    done: asyncio.Future[list[bytes]]

    def end(self, error: Exception | None = None) -> None:
        """Wake who waits, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.done.get_loop().call_soon_threadsafe(self._wake, error)

    def _wake(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(self.files)


class Encoders:
    """Some threads, and the line before them. Used in one event loop."""

    def __init__(self, threads: int, config: BatchingConfig, metrics: Metrics) -> None:
        self._threads = threads
        self._max_queued_rows = config.max_queued_rows
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._lock = threading.Lock()  # of the line, the orders, and what is known of the threads
        self._line = BatchQueue(ONE_BY_ONE)
        self._orders: dict[Work, _Order] = {}
        self._running = 0  # threads that have work
        self._file_s = 0.0  # smoothed over the last few; 0 before the first
        self._left = asyncio.Event()  # cleared by who waits for room

    @asynccontextmanager
    async def room(self, model: LoadedVersion, work: Work, *, patient: bool) -> AsyncIterator[None]:
        """Room for the rows of `work`, which count until the block ends, when their files are there.

        patient   wait for room, and do not ask whether the deadline can be met
        Raises QueueFull at once when there is no room or the deadline cannot be met.
        """
        if not patient:
            self._check_pace(model, work)
        at_once = model.batcher.rows_at_once  # at work, not waiting
        needed = 1 if work.rows <= at_once else work.rows  # rows leave singly: a batch would never fit
        while model.encode_queue.rows + needed > self._max_queued_rows + at_once:
            if not patient:
                raise self._refusal(
                    model,
                    work,
                    f"no room for {counted(work.rows)}: the files of {model.encode_queue.rows} are not there yet, "
                    f"max_queued_rows is {self._max_queued_rows}",
                )
            self._left.clear()
            await self._left.wait()
        model.encode_queue.put(work)
        try:
            yield
        finally:
            model.encode_queue.discard(work)
            self._left.set()

    async def encode(self, work: Work, encode: Callable[[int], bytes]) -> list[bytes]:
        """The files of all rows of `work`, in order; `encode` makes one of them, in a thread.

        Raises what `encode` raises, and DeadlineExceeded. Cancelling drops the images that still wait.
        """
        done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._orders[work] = _Order(encode, [b""] * work.rows, work.rows, done)
            self._line.put(work)
            starting = min(work.rows, self._threads - self._running)
            self._running += starting
        try:
            for _ in range(starting):
                self._pool.submit(self._run)
            return await done
        except asyncio.CancelledError:
            with self._lock:
                self._metrics.rows_dropped.labels(reason_to_drop(work)).inc(self._line.discard(work))
            raise
        finally:
            with self._lock:
                del self._orders[work]

    def queued_rows(self, priority: Priority) -> int:
        return self._line.rows_of(priority)

    def close(self) -> None:
        """End the threads after what they are at."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check_pace(self, model: LoadedVersion, work: Work) -> None:
        """Raises QueueFull for files that would come after their deadline. Who is alone may always show the pace."""
        if model.encode_queue.rows:
            rows = max(queue.batches_until_done(work.rows, work.priority) for queue in (model.encode_queue, self._line))
            if problem := too_late(work, self._expected_s(rows)):
                raise self._refusal(model, work, problem)

    def _refusal(self, model: LoadedVersion, work: Work, message: str) -> QueueFull:
        self._metrics.rows_dropped.labels("rejected").inc(work.rows)
        slowest_s = max(model.batcher.until_empty_s(), self._expected_s(model.encode_queue.rows))
        return QueueFull(message, max(slowest_s, MIN_RETRY_S))

    def _expected_s(self, rows: int) -> float:
        return math.ceil(rows / self._threads) * self._file_s

    def _run(self) -> None:
        """Encode image after image until nobody waits."""
        while found := self._next():
            piece, order = found
            started = time.monotonic()
            try:
                order.files[piece.start] = order.encode(piece.start)
            except Exception as error:
                with self._lock:
                    self._line.discard(piece.work)
                order.end(error)
            else:
                self._count(order, time.monotonic() - started)

    def _next(self) -> tuple[Slice, _Order] | None:
        """The image whose turn it is."""
        with self._lock:
            while pieces := self._line.take():
                (piece,) = pieces
                order = self._orders[piece.work]
                if piece.work.deadline > time.monotonic():
                    return piece, order
                self._metrics.rows_dropped.labels("expired").inc(piece.rows + self._line.discard(piece.work))
                order.end(DeadlineExceeded("the deadline passed before the images were encoded"))
            self._running -= 1
            return None

    def _count(self, order: _Order, seconds: float) -> None:
        with self._lock:
            self._file_s += (seconds - self._file_s) * (_SMOOTHING if self._file_s else 1.0)
            order.missing -= 1
            if not order.missing:
                order.end()
