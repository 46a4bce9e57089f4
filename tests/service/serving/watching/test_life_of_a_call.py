"""A call takes the steps of its table, and no other."""

from itertools import product

import pytest

from progan_service.serving.life import ImpossibleTransitionError
from progan_service.serving.watching.calls import TRANSITIONS, Call, State

ENDS = {
    "OK": State.ANSWERED,
    "INVALID_ARGUMENT": State.REFUSED,
    "UNAUTHENTICATED": State.REFUSED,
    "RESOURCE_EXHAUSTED": State.REFUSED,
    "INTERNAL": State.FAILED,
    "CANCELLED": State.CANCELLED,
    "DEADLINE_EXCEEDED": State.EXPIRED,
}


FOLLOWING = [state for state in State if state is not State.RECEIVED]


def step(call: Call, following: State) -> None:
    """Take the step by the method that the border takes it by."""
    if following is State.RUNNING:
        call.run()
    else:
        call.end(next(code for code, end in ENDS.items() if end is following))


def test_the_table() -> None:
    refused_or_worse = {State.REFUSED, State.FAILED, State.CANCELLED, State.EXPIRED}
    assert {state: following for state, following in TRANSITIONS.items() if following} == {
        State.RECEIVED: {State.RUNNING} | refused_or_worse,
        State.RUNNING: {State.ANSWERED} | refused_or_worse,
    }
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("state", "following"), list(product(State, FOLLOWING)))
def test_a_call_takes_the_steps_of_the_table_and_no_other(state: State, following: State) -> None:
    call = Call("Generate", state=state)
    if following in TRANSITIONS[state]:
        step(call, following)
        assert call.state is following
    else:
        with pytest.raises(ImpossibleTransitionError):
            step(call, following)
        assert call.state is state


@pytest.mark.parametrize(("code", "end"), ENDS.items())
def test_a_code_ends_a_call_in_one_way(code: str, end: State) -> None:
    call = Call("Generate")
    call.run()
    call.end(code, "A_REASON", "a text")
    assert (call.state, call.code, call.reason, call.error) == (end, code, "A_REASON", "a text")
