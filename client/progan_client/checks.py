"""The rules of numbers that callers give. Those of NumPy are numbers; texts and bools are not."""

import math
import numbers
import operator

from progan_client.errors import ArgumentError


def checked_number(argument: str, rule: str, value: object) -> float:
    """Return a number as a float; raise ArgumentError for anything else, NaN too."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # of an integer with more than 300 digits
            raise ArgumentError(argument, rule, value) from None
        if not math.isnan(number):
            return number
    raise ArgumentError(argument, rule, value)


def checked_integer(argument: str, value: object, low: int, high: float = math.inf) -> int:
    """Return an integer from `low` to `high`; raise ArgumentError for anything else."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # this is the check
    except TypeError:
        raise ArgumentError(argument, "must be an integer", value) from None
    if isinstance(value, bool):
        raise ArgumentError(argument, "must be an integer", value)
    if not low <= number <= high:
        rule = f"must be at least {low}" if high == math.inf else f"must be {low} to {high}"
        raise ArgumentError(argument, rule, value)
    return number


def checked_timeout_s(argument: str, value: object) -> float:
    """Return a number of seconds; raise ArgumentError unless it is finite and above 0."""
    rule = "must be a number of seconds above 0"
    seconds = checked_number(argument, rule, value)
    if not 0 < seconds < math.inf:
        raise ArgumentError(argument, rule, value)
    return seconds
