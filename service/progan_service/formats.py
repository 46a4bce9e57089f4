"""Files that live longer than a release: how each of them is read, so that it can grow.

These are `progan.json`, `rollout.json`, `dataset.json`, the `config.json` of a run, checkpoints and weights files. Each
has a `format_version`, which names the meaning of its keys. A file without one has version 1.

A release that adds a key keeps the version if older readers do no harm without the key; else it raises the version.
Readers ignore keys that they do not know, keep them when they write the file again, and refuse a higher version.
"""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from progan_service.errors import BadInputError

VERSION_KEY = "format_version"
UNKNOWN = "unknown"  # the field of a dataclass that keeps the keys of newer releases

_OBJECT = "an object of names and values"
_RULES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


class FormatError(BadInputError):
    """The content of a file does not fit its format; the message names the value and the rule."""


class NewerFormatError(FormatError):
    """The content of a file has a meaning that only a newer release knows."""


def parse(content: str | bytes, newest: int) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    newest   the highest format version that this release reads
    Raises FormatError for content that is no JSON object, NewerFormatError for a higher version.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise FormatError(f"holds {reprlib.repr(document)}: must be {_OBJECT}")
    check_version(document.get(VERSION_KEY, 1), newest)
    return document


def check_version(found: object, newest: int) -> None:
    """Raise NewerFormatError for a version above `newest`, FormatError for a value that is no version."""
    _require(type(found) is int and found > 0, VERSION_KEY, found, "a whole number from 1 on")
    if isinstance(found, int) and found > newest:
        raise NewerFormatError(
            f"was written by a newer release ({VERSION_KEY} {found}; this release reads {newest}): "
            "upgrade progan-service to read it"
        )


def field_values(kind: type, document: object, where: str = "") -> dict[str, Any]:
    """Return the values that a JSON object has for the fields of a dataclass, as the types of the fields.

    where   the name of the object; messages write it before the name of the field
    Raises FormatError for a value of another type, and for a missing field that has no default.
    """
    if not isinstance(document, Mapping):
        raise FormatError(f"{where} is {reprlib.repr(document)}: must be {_OBJECT}")
    hints = get_type_hints(kind)
    values = {}
    for field in _known(kind):
        name = f"{where}.{field.name}" if where else field.name
        if field.name in document:
            values[field.name] = _converted(hints[field.name], document[field.name], name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise FormatError(f"holds no {name}")
    return values


def unknown_values(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a JSON object that are no fields of a dataclass, with their values."""
    known = {VERSION_KEY, *(field.name for field in _known(kind))}
    return {name: value for name, value in document.items() if name not in known}


def _known(kind: Any) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.name != UNKNOWN]


def _converted(hint: Any, value: Any, name: str) -> Any:
    """Return a value of JSON as the type that a field is annotated with."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple:
        _require(isinstance(value, list), name, value, "a list")
        return tuple(_converted(parts[0], item, f"{name}[{index}]") for index, item in enumerate(value))
    if origin is Mapping:
        _require(isinstance(value, dict), name, value, _OBJECT)
        return {_key(parts[0], key, name): _converted(parts[1], item, f"{name}.{key}") for key, item in value.items()}
    allowed = parts if origin is UnionType else (str,) if origin is Literal else (hint,)
    fits = Any in allowed or type(value) in allowed or (float in allowed and type(value) is int)
    _require(fits, name, value, " or ".join(_RULES[kind] for kind in allowed if kind in _RULES))
    return value


def _key(kind: type, key: str, name: str) -> Any:
    """Return the key of a JSON object, which is always text, as a key of the Python mapping."""
    if kind is int:
        _require(key.isdecimal(), f"a name in {name}", key, "a whole number")
    return kind(key)


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise FormatError(f"{name} is {reprlib.repr(value)}: must be {rule}")
