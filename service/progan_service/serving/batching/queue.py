"""Which rows are in the next batch. Pure: no clock, no event loop, no thread, no TensorFlow. One row is one image.

- Work is admitted whole or refused whole. The queue is bounded in rows.
- A batch is taken whenever a device is free. It holds the rows that wait, up to `max_batch_size`.
- Works of one flow (the pieces of one stream) take one turn together.
- Flows share a batch evenly. What one flow does not need goes to the others. A call with many rows is spread over many
  batches, and a small call that comes later is in the next batch.
- Flows take turns: those left out of a batch come before those that were in it.
- Interactive work comes first. Bulk work gets the rows that are left, and the first pick of every eighth batch.
- Rows of cancelled and expired work leave the queue before they are computed.
"""

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain, islice

from progan_service.serving.config import BatchingConfig

BULK_TURN = 8  # bulk work has the first pick of every eighth batch


class Priority(IntEnum):
    """Which rows come first."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(eq=False)
class Work:
    """Rows of one call.

    deadline, queued_at   in seconds of any one clock
    flow                  works of the same flow take one turn together; None: this work is a flow of its own
    taken                 rows that are in a batch already
    """

    rows: int
    deadline: float = float("inf")
    queued_at: float = 0.0
    flow: object = None
    priority: Priority = Priority.INTERACTIVE
    taken: int = 0

    @property
    def waiting(self) -> int:
        """Return the number of rows that are in no batch yet."""
        return self.rows - self.taken


@dataclass(frozen=True)
class Slice:
    """Rows start ... stop - 1 of a work, all in one batch."""

    work: Work
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class _Lane:
    """The works of one priority, by flow, in the order in which the flows take turns."""

    def __init__(self) -> None:
        self._flows: dict[object, deque[Work]] = {}
        self.rows = 0

    @property
    def flows(self) -> int:
        return len(self._flows)

    @property
    def works(self) -> Iterator[Work]:
        return chain.from_iterable(self._flows.values())

    def put(self, work: Work) -> None:
        self._flows.setdefault(_flow(work), deque()).append(work)
        self.rows += work.rows

    def discard(self, work: Work) -> int:
        dropped = work.waiting
        if dropped:
            works = self._flows[_flow(work)]
            works.remove(work)
            if not works:
                del self._flows[_flow(work)]
            self.rows -= dropped
            work.taken = work.rows
        return dropped

    def take(self, room: int) -> list[Slice]:
        """Take at most `room` rows, shared evenly by the flows whose turn it is."""
        chosen = dict(islice(self._flows.items(), room))
        slices = []
        for flow, share in _even_shares({flow: sum(w.waiting for w in works) for flow, works in chosen.items()}, room):
            works = self._flows.pop(flow)
            while share:
                piece = Slice(works[0], works[0].taken, works[0].taken + min(share, works[0].waiting))
                slices.append(piece)
                piece.work.taken = piece.stop
                share -= piece.rows
                self.rows -= piece.rows
                if not piece.work.waiting:
                    works.popleft()
            if works:
                self._flows[flow] = works  # to the end of the line
        return slices


def _flow(work: Work) -> object:
    return work if work.flow is None else work.flow


def _even_shares(wanted: Mapping[object, int], room: int) -> list[tuple[object, int]]:
    """Return the rows of `room` that each flow gets, in the order of `wanted`. What one leaves goes to others."""
    shares = {}
    for place, flow in enumerate(sorted(wanted, key=lambda flow: wanted[flow])):
        shares[flow] = min(wanted[flow], room // (len(wanted) - place))
        room -= shares[flow]
    return [(flow, shares[flow]) for flow in wanted]


class BatchQueue:
    """Work that waits for a device, under the rules at the top of this module.

    Not synchronized: its owner holds a lock, or calls it from one thread only. `rows` and `rows_of` may be read from
    any thread without the lock; they may lag.
    """

    def __init__(self, config: BatchingConfig) -> None:
        self._config = config
        self._lanes = {priority: _Lane() for priority in Priority}
        self._bulk_left_out = 0  # batches in a row

    @property
    def rows(self) -> int:
        return sum(lane.rows for lane in self._lanes.values())

    def rows_of(self, priority: Priority) -> int:
        return self._lanes[priority].rows

    def put(self, work: Work) -> bool:
        """Admit all rows, or none of them: False when the queue has no room."""
        if self.rows + work.rows > self._config.max_queued_rows:
            return False
        self._lanes[work.priority].put(work)
        return True

    def discard(self, work: Work) -> int:
        """Remove the rows of a work that still wait. Return how many there were."""
        return self._lanes[work.priority].discard(work)

    def expired(self, now: float) -> list[Work]:
        """Return the works whose deadline has passed while rows of them waited. They stay until they are discarded."""
        return [work for lane in self._lanes.values() for work in lane.works if work.deadline <= now]

    def take(self, most_rows: int | None = None) -> list[Slice]:
        """Take the next batch of at most `most_rows` (default: max_batch_size). Empty when nothing waits."""
        most_rows = self._config.max_batch_size if most_rows is None else most_rows
        interactive, bulk = self._lanes[Priority.INTERACTIVE], self._lanes[Priority.BULK]
        bulk_first = self._bulk_left_out >= BULK_TURN - 1
        waited = bulk.rows
        slices: list[Slice] = []
        for lane in (bulk, interactive) if bulk_first else (interactive, bulk):
            slices += lane.take(most_rows - sum(piece.rows for piece in slices))
        self._bulk_left_out = self._bulk_left_out + 1 if waited and bulk.rows == waited else 0
        return slices

    def batches_until_done(self, rows: int, priority: Priority, most_rows: int | None = None) -> int:
        """Estimate the number of batches of at most `most_rows` until new work is done, if nothing else comes."""
        room, lane = most_rows or self._config.max_batch_size, self._lanes[priority]
        ahead = self._lanes[Priority.INTERACTIVE].rows if priority is Priority.BULK else 0
        in_turn = ceil_div(rows * (lane.flows + 1), room)
        one_after_the_other = ceil_div(lane.rows + rows, room)
        return ceil_div(ahead, room) + min(in_turn, one_after_the_other)


ONE_BY_ONE = BatchingConfig(max_batch_size=1, max_queued_rows=sys.maxsize)  # the queue's owner checks its bounds


def ceil_div(rows: int, batch: int) -> int:
    return -(-rows // batch)


def padded_size(rows: int, config: BatchingConfig) -> int:
    """Return the smallest allowed batch size that holds `rows`."""
    return next(size for size in config.allowed_batch_sizes if size >= rows)


def in_parts(slices: list[Slice], rows: int) -> list[list[Slice]]:
    """Return the same rows in lists of at most `rows` each."""
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
