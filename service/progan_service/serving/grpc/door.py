"""The door: who would wait long, and for nothing, is refused before its request is read.

To read a request and refuse it takes the event loop about three times as long as to refuse it at the door. Without a
door, calls that come faster than that would wait for seconds, and so would the few that find room.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from progan_service.serving.errors import ServingError, Unread

_LATE_S = 0.1


@dataclass
class _Caller:
    """The calls of a caller that wait for their request to be read.

    since     when each of them came, oldest first
    retry_s   when a call may find room, if one has found none since they began to wait
    """

    since: dict[object, float] = field(default_factory=dict)
    retry_s: float | None = None


class Door:
    """Refuses a call if both is true of its caller. Used in the event loop only.

    - One of its calls has been waiting for 0.1 s.
    - They are likely to wait for nothing: one that was read meanwhile was refused, and may try again later. So a burst
      of calls that finds room is let in, all of it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: dict[str, _Caller] = {}  # those with calls that wait

    @contextmanager
    def waiting(self, owner: str) -> Iterator[None]:
        """Count a call as waiting within the block. Raise Unread if it is refused instead."""
        now, caller = self._clock(), self._callers.setdefault(owner, _Caller())
        if caller.retry_s is not None and now - next(iter(caller.since.values())) > _LATE_S:
            raise Unread("there is no room, and more calls come from this caller than can be read", caller.retry_s)
        call = object()
        caller.since[call] = now
        try:
            yield
        finally:
            del caller.since[call]
            if not caller.since:
                del self._callers[owner]

    @contextmanager
    def inside(self, owner: str) -> Iterator[None]:
        """Note whether the call that is served within the block is refused and may try again later."""
        try:
            yield
        except ServingError as error:
            if error.retry_after_s is not None and owner in self._callers:
                self._callers[owner].retry_s = error.retry_after_s
            raise
