"""JSON that a caller sent, with the kinds of its values checked. Pure."""

import json
from typing import Any

from progan_service.serving.errors import InvalidArgument


def parsed(text: bytes) -> dict[str, Any]:
    """Return the object that a body is; an empty one if it is empty. Raise InvalidArgument."""
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidArgument("request", "is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidArgument("request", "must be a JSON object")
    return found


def text_of(value: Any, what: str) -> str:
    """Return a text that UTF-8 can write. Raise InvalidArgument about `what`."""
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidArgument(what, "must be a text")
    return value


def list_of(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidArgument(what, "must be a list")
    return value


def object_of(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(what, "must be an object")
    return value


def whole_number(value: Any, what: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidArgument(what, f"must be a whole number from {least} to {most}")
    return value


def flat(values: Any, what: str) -> list[Any]:
    """Return the elements of a list of any depth, in order. Raise InvalidArgument if it is none."""
    found: list[Any] = []
    waiting = [iter(list_of(values, what))]
    while waiting:
        for value in waiting[-1]:
            if isinstance(value, list):
                waiting.append(iter(value))
                break
            found.append(value)
        else:
            waiting.pop()
    return found
