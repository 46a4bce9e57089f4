"""Calls of two callers at the door, as time passes."""

from contextlib import ExitStack, suppress

import pytest

from progan_service.serving.errors import InvalidArgument, QueueFull, ServingError, Unread
from progan_service.serving.grpc.door import Door


class Hall:
    """A door, calls that wait behind it, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.door = Door(lambda: self.now)
        self.waiting = ExitStack()

    def come(self, owner: str, calls: int = 1) -> None:
        for _ in range(calls):
            self.waiting.enter_context(self.door.waiting(owner))

    def serve(self, owner: str, error: ServingError | None = None) -> None:
        """One call of this caller, to its end."""
        with suppress(ServingError), self.door.inside(owner):
            if error:
                raise error


def full(retry_s: float = 2.5) -> QueueFull:
    return QueueFull("no room for 1 image", retry_s)


def test_a_burst_that_finds_room_is_let_in_however_long_it_waits() -> None:
    hall = Hall()
    hall.come("a", 500)
    for _ in range(500):
        hall.now += 0.01
        hall.serve("a")
    hall.serve("a", InvalidArgument("count", "is 0"))
    hall.come("a", 500)


def test_who_waits_while_calls_of_the_same_caller_find_no_room_gets_no_more_company() -> None:
    hall = Hall()
    hall.come("a")
    hall.serve("a", full(2.5))
    hall.now += 0.09
    hall.come("a")
    hall.now += 0.02
    with pytest.raises(Unread, match="there is no room, and more calls come from this caller") as refused:
        hall.come("a")
    assert refused.value.retry_after_s == 2.5
    hall.come("b")


def test_when_nothing_waits_any_more_what_was_before_is_forgotten() -> None:
    hall = Hall()
    hall.come("a")
    hall.serve("a", full())
    hall.waiting.close()
    hall.come("a")
    hall.now += 10
    hall.come("a")
    hall.serve("a", full())
    with pytest.raises(QueueFull):
        hall.come("a")
