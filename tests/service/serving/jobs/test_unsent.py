"""Images that wait for their callers: who may have how many bytes."""

from contextlib import ExitStack

import pytest

from progan_service.serving.errors import QueueFull
from progan_service.serving.jobs.unsent import Unsent
from progan_service.serving.watching.metrics import Metrics


@pytest.fixture
def unsent() -> Unsent:
    return Unsent(800, Metrics())


def test_what_a_call_held_is_free_when_it_ends(unsent: Unsent) -> None:
    with unsent.hold("alice", "puppet", 1, 100) as held:
        assert held.grow(50)
        assert unsent.bytes == 150
    assert unsent.bytes == 0


def test_a_caller_gets_half_and_the_others_the_rest(unsent: Unsent) -> None:
    with unsent.hold("alice", "puppet", 1, 300):
        with (
            pytest.raises(QueueFull, match="no room for 2 images, 101 bytes: 300 wait for you already, and one caller"),
            unsent.hold("alice", "puppet", 2, 101),
        ):
            pass
        with unsent.hold("bob", "puppet", 1, 400):
            assert unsent.bytes == 700


def test_what_does_not_fit_is_refused_and_counted(unsent: Unsent) -> None:
    with ExitStack() as calls:
        for caller in ("alice", "bob"):
            calls.enter_context(unsent.hold(caller, "puppet", 1, 400))
        text = "no room for 1 image, 1 bytes: 800 wait to be sent already, max_unsent_bytes is 800"
        with pytest.raises(QueueFull, match=text):
            calls.enter_context(unsent.hold("carol", "puppet", 1, 1))
    assert unsent.bytes == 0


def test_the_streams_of_a_caller_are_made_ahead_up_to_a_quarter(unsent: Unsent) -> None:
    with unsent.hold("alice", "puppet", 1, 50) as first, unsent.hold("alice", "puppet", 1, 50) as second:
        assert [first.grow(50), first.grow(50), first.grow(50), second.grow(50)] == [True, True, False, False]
    with unsent.hold("alice", "puppet", 1, 50) as third:
        assert third.grow(50)


def test_nothing_is_made_ahead_when_half_is_held(unsent: Unsent) -> None:
    with unsent.hold("alice", "puppet", 1, 350), unsent.hold("bob", "puppet", 1, 10) as held:
        assert [held.grow(20) for _ in range(3)] == [True, True, False]
