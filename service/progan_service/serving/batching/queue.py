"""Which works are let in, and which rows are in the next batch. Pure: no clock, no loop, no thread, no TensorFlow.

Letting in
- Work is admitted whole or refused whole. The queue is bounded in rows. While others ask, its last eighth is for
  callers that hold less than their part of it.
- Work with a deadline is admitted if its rows and all rows that were admitted can be in time (deadlines.py). That is a
  promise: it holds unless the device becomes slower.
- While others ask, a caller may hold as many of the rows that can be done by a deadline as stay free, less a quarter
  of those beyond eight batches. So callers that ask for more than they can get have equal parts, and something is left
  for who comes next, for its latency, and for works without a deadline. It costs no throughput under load: the device
  has enough to do.
- While nobody else has asked for 10 s, a caller may hold three times as many as stay free, and always four batches.
- While interactive callers ask, all bulk works together may hold 2/9 of what stays free: an eighth of the whole beside
  one interactive caller that asks for too much.
- Whoever has nothing waiting needs no more than that its work can be in time.

Taking a batch
- A batch is taken whenever a device is free (batcher.py says when a busy one takes another). It holds the rows that
  wait, up to its largest size.
- Rows without which a promise would be broken come first, earliest deadline first. The others follow in turns
  (turns.py), interactive ones before bulk. Bulk comes first in every eighth batch.
- A batch is smaller if it would end after the deadline of one of its rows.
- Rows that cannot be in time any more leave the queue before they cost anything, whole works at a time.
"""

import sys
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from progan_service.serving.batching.deadlines import Deadlines, Demand, Forecast
from progan_service.serving.batching.turns import Turns
from progan_service.serving.batching.work import Priority, Slice, Work, counted
from progan_service.serving.config import BatchingConfig

BULK_TURN = 8  # bulk work has the first pick of every eighth batch

_SPARE = 1 / 4
_SPARE_BATCHES = 8
_SHARE_ALONE = 3.0
_BATCHES_ALONE = 4
_SHARE_OF_BULK = 2 / 9
_RESERVED = 1 / 8
_ASKING_S = 10.0
_KEPT_ASKERS = 1024


@dataclass(frozen=True)
class Refusal:
    """Why work is not admitted, and how many rows have to be done before it would be."""

    message: str
    rows: float


UNBOUNDED = BatchingConfig(max_queued_rows=sys.maxsize)  # for a queue whose owner checks its bounds


class BatchQueue:
    """Work that waits for a device, under the rules at the top of this module.

    Not synchronized: its owner holds a lock, or calls it from one thread only. `rows` and `rows_of` may be read from
    any thread without the lock; they may lag.
    """

    def __init__(self, config: BatchingConfig) -> None:
        self._max_rows = config.max_queued_rows
        self._interactive, self._bulk = Turns(), Turns()
        self._turns = {Priority.INTERACTIVE: self._interactive, Priority.BULK: self._bulk}
        self._promised = Deadlines()
        self._unpromised = Deadlines()
        self._bulk_left_out = 0  # batches in a row
        self._interactive_at = float("-inf")  # when an interactive caller asked last
        self._asked: OrderedDict[str, float] = OrderedDict()  # when a caller asked last, latest last

    @property
    def rows(self) -> int:
        return self._interactive.rows + self._bulk.rows

    def rows_of(self, priority: Priority) -> int:
        return self._turns[priority].rows

    def admit(self, work: Work, forecast: Forecast | None = None) -> Refusal | None:
        """Put work into the queue, or return why not. Without a forecast no deadline is checked."""
        alone = self._ask(work)
        refusal = self._refused_for_room(work, alone)
        if not refusal and forecast and _is_promise(work) and (self.rows or not forecast.is_met_at_once(work)):
            demand = self._promised.demand_with(work, self.rows + work.rows, forecast)
            refusal = _refused_for_time(work, demand, forecast)
            refusal = refusal or self._refused_for_share(work, demand, forecast, alone)
        if not refusal:
            self._put(work)
        return refusal

    def pass_by(self, work: Work) -> Slice:
        """Return all rows of a work for a batch at once. Nothing else may wait."""
        self._ask(work)
        work.taken = work.rows
        return Slice(work, 0, work.rows)

    def discard(self, work: Work) -> int:
        """Remove the rows of a work that still wait. Return how many there were."""
        dropped = self._turns[work.priority].discard(work)
        if dropped:
            self._note_deadline(work)
        return dropped

    def late(self, now: float, forecast: Forecast | None = None) -> list[Work]:
        """Return the works that cannot be in time any more. They stay until they are discarded."""
        if not forecast:
            return self._promised.passed(now) + self._unpromised.passed(now)
        return self._promised.hopeless(self.rows, forecast) + self._unpromised.passed(now + forecast.seconds[0])

    def take(self, most_rows: int, forecast: Forecast | None = None) -> list[Slice]:
        """Take the next batch of at most `most_rows`. Empty when nothing waits."""
        size, pressing = most_rows, 0
        if forecast and len(self._promised):
            size, pressing = self._promised.pressing(self.rows, forecast)
        size, bulk_waited = min(size, most_rows, self.rows), self._bulk.rows
        taken = dict(self._promised.first(min(pressing, size)))
        for work, rows in taken.items():
            self._take(work, rows)
        room = size - sum(taken.values())
        for turns in self._in_order():
            while room and (turn := turns.first()):
                rows = min(room, turn.waiting)
                self._take(turn, rows)
                taken[turn] = taken.get(turn, 0) + rows
                room -= rows
        self._bulk_left_out = self._bulk_left_out + 1 if bulk_waited and self._bulk.rows == bulk_waited else 0
        return [Slice(work, work.taken - rows, work.taken) for work, rows in taken.items()]

    def _in_order(self) -> tuple[Turns, Turns]:
        if self._bulk_left_out >= BULK_TURN - 1:
            return self._bulk, self._interactive
        return self._interactive, self._bulk

    def _take(self, work: Work, rows: int) -> None:
        self._turns[work.priority].take(work, rows)
        self._note_deadline(work)

    def _put(self, work: Work) -> None:
        self._turns[work.priority].put(work)
        if work.deadline < float("inf"):
            (self._promised if _is_promise(work) else self._unpromised).put(work)

    def _note_deadline(self, work: Work) -> None:
        if work.deadline < float("inf"):
            (self._promised if _is_promise(work) else self._unpromised).update(work)

    def _ask(self, work: Work) -> bool:
        """Note who asks. Return whether nobody else has asked lately."""
        if work.priority is Priority.INTERACTIVE:
            self._interactive_at = work.queued_at
        self._asked[work.caller] = work.queued_at
        self._asked.move_to_end(work.caller)
        if len(self._asked) > _KEPT_ASKERS:
            self._asked.popitem(last=False)
        others = (at for caller, at in reversed(self._asked.items()) if caller != work.caller)
        return work.queued_at - next(others, float("-inf")) > _ASKING_S

    def _refused_for_room(self, work: Work, alone: bool) -> Refusal | None:
        excess = self.rows + work.rows - self._max_rows
        if excess > 0:
            return Refusal(
                f"no room for {counted(work.rows)}: {self.rows} wait already, max_queued_rows is {self._max_rows}",
                excess,
            )
        turns = self._turns[work.priority]
        own = turns.rows_of(work.caller)
        excess = self.rows + work.rows - int(self._max_rows * (1 - _RESERVED))
        if not alone and own and excess > 0 and own + work.rows > self._max_rows / (turns.callers + 1):
            return Refusal(
                f"no room for {counted(work.rows)}: {own} of this caller wait already, and the last eighth of "
                f"max_queued_rows {self._max_rows} is for callers with fewer",
                excess,
            )
        return None

    def _refused_for_share(self, work: Work, demand: Demand, forecast: Forecast, alone: bool) -> Refusal | None:
        free = (demand.done - demand.due).clip(0)
        at_once = forecast.largest * len(forecast.free_at)
        if alone:
            allowed = np.maximum(_SHARE_ALONE * free, _BATCHES_ALONE * at_once + work.rows)
        else:
            spare = _SPARE * (demand.done - _SPARE_BATCHES * at_once).clip(0)
            allowed = np.maximum(free - spare, work.rows)
        excess = (demand.own - allowed).max()
        if work.priority is Priority.BULK and work.queued_at - self._interactive_at < _ASKING_S:
            excess = max(excess, (demand.bulk - np.maximum(_SHARE_OF_BULK * free, work.rows)).max())
        if excess <= 0:
            return None
        return Refusal(
            f"no room for {counted(work.rows)} before the deadline in {work.left_s:.3g} s: this caller has its share, "
            "the rest is for others",
            float(excess),
        )


def _refused_for_time(work: Work, demand: Demand, forecast: Forecast) -> Refusal | None:
    excess = float((demand.due - demand.done).max())
    if excess <= 0:
        return None
    needed_s = work.left_s + forecast.seconds_for(excess)
    return Refusal(
        f"the deadline in {work.left_s:.3g} s cannot be met: {counted(work.rows)} would take {needed_s:.3g} s", excess
    )


def _is_promise(work: Work) -> bool:
    return work.deadline < float("inf") and not work.patient
