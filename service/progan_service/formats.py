"""Files that live longer than a release: how each of them is read, so that it can grow.

These are `progan.json`, `directions.json`, `rollout.json`, `dataset.json`, the `config.json` of a run, checkpoints and
weights files. Each has a `format_version`, which names the meaning of its keys. A file without one has version 1.

A release that adds a key keeps the version if older readers do no harm without the key; else it raises the version.
Readers ignore keys that they do not know, keep them when they write the file again, and refuse a higher version.
"""

import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from progan_service.errors import BadInputError

VERSION_KEY = "format_version"
UNKNOWN = "unknown"  # the field of a dataclass that keeps the keys of newer releases

MAX_DEPTH = 20  # of objects and lists within each other; readers that call themselves would end at hundreds

_OBJECT = "an object of names and values"
_LONGEST_NAME = 100  # characters
_TOO_DEEP = f"is nested too deep: must have at most {MAX_DEPTH} objects and lists within each other"
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
        document = json.loads(content, object_pairs_hook=_unique)
    except FormatError:
        raise
    except RecursionError as error:
        raise FormatError(_TOO_DEEP) from error
    except ValueError as error:
        raise FormatError(f"is no JSON: {error}") from error
    _check_depth(document)
    if not isinstance(document, dict):
        raise FormatError(f"holds {reprlib.repr(document)}: must be {_OBJECT}")
    check_version(document.get(VERSION_KEY, 1), newest)
    return document


def values_in(document: object) -> Iterator[list[Any]]:
    """Yield the values of a JSON document level by level: the document itself, what it contains, and so on."""
    level = [document]
    while level:
        yield level
        level = list(chain.from_iterable(_parts(value) for value in level))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_depth(document: object) -> None:
    for depth, level in enumerate(values_in(document)):
        if depth >= MAX_DEPTH and any(isinstance(value, dict | list) for value in level):
            raise FormatError(_TOO_DEEP)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raise FormatError for a name that it has twice: readers would disagree about its value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise FormatError(f"has the name {reprlib.repr(twice)} twice in one object")
    return found


def check_version(found: object, newest: int) -> None:
    """Raise NewerFormatError for a version above `newest`, FormatError for a value that is no version."""
    require(type(found) is int and found > 0, VERSION_KEY, found, "a whole number from 1 on")
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
        require(isinstance(value, list), name, value, "a list")
        return tuple(_converted(parts[0], item, f"{name}[{index}]") for index, item in enumerate(value))
    if origin is Mapping:
        require(isinstance(value, dict), name, value, _OBJECT)
        return {
            _key(parts[0], key, name): _converted(parts[1], item, f"{name}.{_shown(key)}")
            for key, item in value.items()
        }
    allowed = parts if origin is UnionType else (str,) if origin is Literal else (hint,)
    fits = Any in allowed or type(value) in allowed or (float in allowed and type(value) is int)
    require(fits, name, value, " or ".join(_RULES[kind] for kind in allowed if kind in _RULES))
    require(origin is not Literal or value in parts, name, value, " or ".join(map(str, parts)))
    return value


def _key(kind: type, key: str, name: str) -> Any:
    """Return the key of a JSON object, which is always text, as a key of the Python mapping."""
    if kind is int:
        require(key.isdecimal() and len(key) < 20, f"a name in {name}", key, "a whole number")
    return kind(key)


def _shown(key: str) -> str:
    """Return the name of a value for a message: as it is if it is short and can be printed."""
    return key if len(key) <= _LONGEST_NAME and key.isprintable() else reprlib.repr(key)


def is_unicode(text: str) -> bool:
    """Tell whether text can be sent as UTF-8. JSON, and names of files, can hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_size(content: str, max_bytes: int) -> None:
    """Raise FormatError for content that is about to be written and would be refused by its reader."""
    size = len(content.encode())
    require(size <= max_bytes, "the size in bytes", size, f"at most {max_bytes}")


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raise FormatError, naming the value and its rule, unless the rule holds."""
    if not holds:
        raise FormatError(f"{name} is {reprlib.repr(value)}: must be {rule}")
