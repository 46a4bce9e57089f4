"""The rules of values, each stated once."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from progan_service.errors import ConfigError


class Rule(NamedTuple):
    """A rule that values must keep; its text begins with "must"."""

    text: str
    holds: Callable[[Any], bool]


def at_least(low: float) -> Rule:
    return Rule(f"must be {low} or more", lambda value: bool(value >= low))


def above(low: float) -> Rule:
    return Rule(f"must be above {low}", lambda value: bool(value > low))


def between(low: float, high: float) -> Rule:
    return Rule(f"must be {low} to {high}", lambda value: bool(low <= value <= high))


finite = Rule("must be finite", lambda value: bool(abs(value) < math.inf))


def require(holds: bool, field_name: str, value: object, rule: str) -> None:
    """Raise ConfigError, naming the field, its value and the rule, unless the rule holds.

    A rule has names of other settings in backticks.
    """
    if not holds:
        raise ConfigError(f"{field_name} is {value!r}: {rule}", field_name, rule)


def is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def resolutions_up_to(resolution: int) -> list[int]:
    """Return 4, 8, ... up to `resolution`."""
    return [2**r for r in range(2, resolution.bit_length())]
