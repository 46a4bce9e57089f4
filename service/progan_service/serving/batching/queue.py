"""TODO"""

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain, islice

from progan_service.serving.config import BatchingConfig

BULK_TURN = 8  # of so many batches bulk work has the first pick of one


class Priority(IntEnum):
    """Whose rows come first."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(eq=False)
class Work:
    """Rows of one call; `deadline` and `queued_at` in seconds of the caller's clock.

    flow     works of the same flow take one turn together; None: this work is a flow of its own
    """

    rows: int
    deadline: float = float("inf")
    queued_at: float = 0.0
    flow: object = None
    priority: Priority = Priority.INTERACTIVE
    taken: int = 0

    @property
    def waiting(self) -> int:
        return self.rows - self.taken


@dataclass(frozen=True)
class Slice:
    """Rows start ... stop - 1 of a work, in one batch."""

    work: Work
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class _Lane:
    """The works of one priority, by caller, in the order of the callers' turns."""

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
        """At most `room` rows, shared evenly by those whose turn it is."""
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
    """Who gets how many of `room` rows, in the order of `wanted`; those who want less leave more to the others."""
    shares = {}
    for place, flow in enumerate(sorted(wanted, key=lambda flow: wanted[flow])):
        shares[flow] = min(wanted[flow], room // (len(wanted) - place))
        room -= shares[flow]
    return [(flow, shares[flow]) for flow in wanted]


class BatchQueue:
    """Work waiting for the device. See the rules at the top of this module."""

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
        """Forget the rows of a work that are still waiting; how many they were."""
        return self._lanes[work.priority].discard(work)

    def expired(self, now: float) -> list[Work]:
        """Works with waiting rows whose deadline has passed; `discard` them."""
        return [work for lane in self._lanes.values() for work in lane.works if work.deadline <= now]

    def take(self, most_rows: int | None = None) -> list[Slice]:
        """The next batch, at most `most_rows` (max_batch_size); empty when nothing waits."""
        most_rows = self._config.max_batch_size if most_rows is None else most_rows
        interactive, bulk = self._lanes[Priority.INTERACTIVE], self._lanes[Priority.BULK]
        bulk_first = self._bulk_left_out >= BULK_TURN - 1
        waited = bulk.rows
        slices: list[Slice] = []
        for lane in (bulk, interactive) if bulk_first else (interactive, bulk):
            slices += lane.take(most_rows - sum(piece.rows for piece in slices))
        self._bulk_left_out = self._bulk_left_out + 1 if waited and bulk.rows == waited else 0
        return slices

    def batches_until_done(self, rows: int, priority: Priority) -> int:
        """About how many batches it takes until new work of so many rows is done, if nothing else comes."""
        room, lane = self._config.max_batch_size, self._lanes[priority]
        ahead = self._lanes[Priority.INTERACTIVE].rows if priority is Priority.BULK else 0
        in_turn = ceil_div(rows * (lane.flows + 1), room)
        one_after_the_other = ceil_div(lane.rows + rows, room)
        return ceil_div(ahead, room) + min(in_turn, one_after_the_other)


ONE_BY_ONE = BatchingConfig(max_batch_size=1, max_queued_rows=sys.maxsize)  # of a queue that others keep within bounds


def ceil_div(rows: int, batch: int) -> int:
    return -(-rows // batch)


def padded_size(rows: int, config: BatchingConfig) -> int:
    """The smallest allowed batch size that holds `rows`."""
    return next(size for size in config.allowed_batch_sizes if size >= rows)
