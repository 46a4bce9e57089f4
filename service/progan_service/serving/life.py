"""Lives as tables: which state may follow which."""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeVar

State = TypeVar("State", bound=Enum)


class ImpossibleTransitionError(Exception):
    """A fault of this program: a life took a step that its table does not have."""


def follow(transitions: Mapping[State, Collection[State]], state: State, following: State) -> State:
    """Return `following` if the table lets it come after `state`; raise ImpossibleTransitionError if not."""
    if following not in transitions[state]:
        raise ImpossibleTransitionError(f"{following} cannot follow {state}")
    return following
