"""The types that settings can have: how a text, or a value of a TOML or JSON file, becomes a value of each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from progan_service.checks import is_power_of_two


class Kind(NamedTuple):
    """One type.

    rule      what a value must be, as errors say it
    parse     converts the text of a flag or variable; raises ValueError
    convert   converts a value of a file; raises ValueError
    metavar   name of a value on help pages
    """

    rule: str
    parse: Callable[[str], Any]
    convert: Callable[[Any], Any]
    metavar: str


def kind_of(hint: Any) -> Kind:
    """Return the kind of a field with this type. Raises TypeError for a type that no setting can have."""
    if get_origin(hint) is Literal:
        return _TEXT._replace(metavar=f"{{{','.join(get_args(hint))}}}")
    if get_origin(hint) is Mapping:
        return _by_resolution(kind_of(get_args(hint)[1]))
    if hint not in _KINDS:
        raise TypeError(f"a setting cannot be {hint}: see the types in {__name__}")
    return _KINDS[hint]


def spell(value: Any) -> str:
    """Return the text that a flag or variable would have for this value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(spell, value))
    if isinstance(value, Mapping):
        return spell(value[4]) if value.keys() == {4} else ",".join(f"{r}:{spell(one)}" for r, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _number(value: str | float) -> float:
    """Return an integer for 12.0, so that 12 and 12.0 are the same setting."""
    number = value if isinstance(value, int) else float(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _of_type(*types: type, then: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that refuses values of other types and passes the rest to `then`."""

    def convert(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError(value)
        return then(value)

    return convert


def path(text: str) -> Path:
    """Return the path. Raises ValueError for empty text, which Path takes for the current directory."""
    if not text:
        raise ValueError(text)
    return Path(text)


def _path_or_url(text: str) -> Path | str:
    return text if "://" in text else path(text)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


_INTEGER = Kind("a whole number", int, _of_type(int, then=int), "N")
_TEXT = Kind("text", str, _of_type(str, then=str), "TEXT")
_KINDS: dict[Any, Kind] = {
    int: _INTEGER,
    float: Kind("a number", _number, _of_type(int, float, then=_number), "X"),
    bool: Kind("true or false", _boolean, _of_type(bool, then=bool), ""),
    str: _TEXT,
    Path | str: Kind("a directory or a URL", _path_or_url, _of_type(str, then=_path_or_url), "DIR|URL"),
    Path | None: Kind("a path", path, _of_type(str, then=path), "FILE"),
    tuple[int, ...]: Kind(
        "whole numbers, such as 1,4,16",
        _integers,
        _of_type(list, then=lambda values: tuple(map(_INTEGER.convert, values))),
        "N,N,...",
    ),
}


def _by_resolution(kind: Kind) -> Kind:
    """Return the kind of a table of values by resolution. One value alone is that of all resolutions."""

    def table(pairs: list[tuple[str, Any]]) -> dict[int, Any]:
        values = {_resolution(resolution): value for resolution, value in pairs}
        if len(values) < len(pairs):
            raise ValueError("a resolution occurs twice")
        return values

    def parse(text: str) -> dict[int, Any]:
        if ":" not in text:
            return {4: kind.parse(text)}
        pairs = [pair.split(":") for pair in text.split(",")]
        return table([(resolution, kind.parse(value)) for resolution, value in pairs])

    def convert(value: Any) -> dict[int, Any]:
        if not isinstance(value, Mapping):
            return {4: kind.convert(value)}
        return table([(resolution, kind.convert(one)) for resolution, one in value.items()])

    return Kind(f"{kind.rule}, or one by resolution such as 4:32,16:16", parse, convert, kind.metavar)


def _resolution(text: str) -> int:
    if not is_power_of_two(int(text)):
        raise ValueError(text)
    return int(text)
