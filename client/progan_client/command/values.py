"""Read the values of options."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

MAX_COLUMNS = 100  # of a sheet


def number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return a function that reads a number from `low` to `high`."""

    def read(text: str) -> float:
        try:
            if low <= (value := kind(text)) <= high:
                return value
        except ValueError:
            pass
        limit = "" if high == math.inf else f" and at most {high}"
        noun = "an integer" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"must be {noun}, at least {low}{limit}; got {text!r}")

    return read


def path(kind: type[str] | type[Path]) -> Callable[[str], str | Path]:
    """Return a function that reads a path. It refuses empty text, which Path takes for the current directory."""

    def read(text: str) -> str | Path:
        if not text:
            raise argparse.ArgumentTypeError(f"must be a path; got {text!r}")
        return kind(text)

    return read


def version(text: str) -> int | str:
    """Read a version number or label."""
    try:
        return int(text)
    except ValueError:
        return text


def integers(text: str) -> list[int]:
    """Read N,N,..."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be integers separated by commas, such as 1,2,3; got {text!r}") from None


def floats(text: str) -> list[float]:
    """Read X,X,..."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers separated by commas, such as 0,1; got {text!r}") from None


def amount(text: str) -> tuple[str, float]:
    """Read NAME=AMOUNT."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a name and a number, such as size=+1.5; got {text!r}") from None


def sweep(text: str) -> tuple[str, list[float]]:
    """Read NAME=FROM:TO:N as a name and N amounts."""
    name, _, values = text.partition("=")
    try:
        first, last, count = values.split(":")
        steps = int(count) - 1
        if 1 <= steps < MAX_COLUMNS:
            return name, [float(first) + (float(last) - float(first)) * step / steps for step in range(steps + 1)]
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"must be a name, two amounts and 2 to {MAX_COLUMNS} columns, such as size=-3:3:7; got {text!r}"
    )
