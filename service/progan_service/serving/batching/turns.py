"""In which order works of one priority are served when no deadline presses. Pure.

Served evenly, row by row, all calls would end late together. So calls are served one after the other, in the order in
which they would end if rows were served evenly. None ends later than by even service, and most end much earlier.
[Friedman and Henderson 2003, "Fairness and efficiency in web server protocols"]

- Callers share the device evenly, whatever the number of their calls. A caller that was away has no claim to the past.
- The calls of a caller share its part evenly. A small call passes a large one that came before it. Calls of one size
  are served first come, first served.
- The pieces of a stream are one call, and are served in their order.

Virtual time is what tells the order: the number of rows that each of those who wait would have had by even service.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from progan_service.serving.batching.work import Work

_KEPT_CALLERS = 1024  # that wait for nothing

Item = TypeVar("Item")


class _Line(Generic[Item]):
    """Items by rising key. One that is not valid any more is skipped; it is removed when many are."""

    def __init__(self, is_valid: Callable[[float, Item], bool]) -> None:
        self._is_valid = is_valid
        self._entries: list[tuple[float, int, Item]] = []
        self._numbers = count()

    def add(self, key: float, item: Item) -> None:
        heapq.heappush(self._entries, (key, next(self._numbers), item))

    def first(self) -> Item | None:
        while self._entries:
            key, _, item = self._entries[0]
            if self._is_valid(key, item):
                return item
            heapq.heappop(self._entries)
        return None

    def trim(self, valid: int) -> None:
        """Remove what is not valid if that is more than half. `valid` items are."""
        if len(self._entries) > 2 * valid + 16:
            self._entries = [entry for entry in self._entries if self._is_valid(entry[0], entry[2])]
            heapq.heapify(self._entries)


@dataclass
class _Flow:
    """A call that waits: its works, and when the last of them would end by even service."""

    works: int = 0
    end: float = 0.0


class _Caller:
    """The calls of one caller.

    served   the rows that it has had, or when it came, in the virtual time of all callers
    end      when its first call would end in that time
    """

    def __init__(self, name: str, served: float) -> None:
        self.name = name
        self.served = served
        self.end = 0.0
        self.rows = 0
        self._works = 0
        self._now = 0.0  # the virtual time of its calls
        self._flows: dict[object, _Flow] = {}
        self._line: _Line[Work] = _Line(lambda _, work: work.waiting > 0)

    def put(self, work: Work) -> None:
        flow = self._flows.setdefault(_flow(work), _Flow())
        flow.works += 1
        flow.end = max(self._now, flow.end) + work.waiting
        self._line.add(flow.end, work)
        self._works += 1
        self.rows += work.waiting

    def first(self) -> Work | None:
        return self._line.first()

    def serve(self, rows: int) -> None:
        self.served += rows
        self._now += rows / len(self._flows)

    def remove(self, work: Work, rows: int) -> None:
        """Forget rows of a work that wait no longer."""
        self.rows -= rows
        if not work.waiting:
            flow = self._flows[_flow(work)]
            flow.works -= 1
            if not flow.works:
                del self._flows[_flow(work)]
            self._works -= 1
            self._line.trim(self._works)


class Turns:
    """The works of one priority. `rows` may be read from any thread; it may lag."""

    def __init__(self) -> None:
        self.rows = 0
        self._callers: dict[str, _Caller] = {}  # those that wait
        self._ahead: dict[str, float] = {}  # served, of those that wait for nothing and have had more than others
        self._now = 0.0
        self._line: _Line[_Caller] = _Line(lambda end, caller: caller.rows > 0 and caller.end == end)

    @property
    def callers(self) -> int:
        """Return the number of callers that wait."""
        return len(self._callers)

    def rows_of(self, caller: str) -> int:
        return self._callers[caller].rows if caller in self._callers else 0

    def put(self, work: Work) -> None:
        caller = self._callers.get(work.caller)
        if caller is None:
            served = max(self._now, self._ahead.pop(work.caller, 0.0))
            caller = self._callers[work.caller] = _Caller(work.caller, served)
        caller.put(work)
        self.rows += work.waiting
        self._rank(caller)

    def first(self) -> Work | None:
        """Return the work whose turn it is."""
        caller = self._line.first()
        return caller.first() if caller else None

    def take(self, work: Work, rows: int) -> None:
        """Take rows of a work for a batch, whether it is its turn or not: they count as served."""
        caller = self._callers[work.caller]
        self._now += rows / len(self._callers)
        caller.serve(rows)
        self._remove(caller, work, rows)

    def discard(self, work: Work) -> int:
        """Remove the rows of a work that wait. Return how many there were."""
        dropped = work.waiting
        if dropped:
            self._remove(self._callers[work.caller], work, dropped)
        return dropped

    def _remove(self, caller: _Caller, work: Work, rows: int) -> None:
        work.taken += rows
        self.rows -= rows
        caller.remove(work, rows)
        if caller.rows:
            self._rank(caller)
        else:
            self._dismiss(caller)

    def _rank(self, caller: _Caller) -> None:
        first = caller.first()
        assert first is not None
        end = caller.served + first.waiting
        if end != caller.end:
            caller.end = end
            self._line.add(end, caller)
            self._line.trim(len(self._callers))

    def _dismiss(self, caller: _Caller) -> None:
        del self._callers[caller.name]
        if not self._callers:
            self._now = 0.0
            self._ahead.clear()
        elif caller.served > self._now:
            self._ahead[caller.name] = caller.served
            if len(self._ahead) > _KEPT_CALLERS:
                self._ahead = {name: served for name, served in self._ahead.items() if served > self._now}


def _flow(work: Work) -> object:
    return work if work.flow is None else work.flow
