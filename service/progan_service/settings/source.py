"""Where the values of settings come from: a flag, before the environment, before a TOML file, before the default."""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from progan_service.errors import ConfigError
from progan_service.host.files import content
from progan_service.settings.field import MASK, Setting, Settings, nested, own_settings, settings_of
from progan_service.settings.kind import spell

C = TypeVar("C", bound=Settings)

PREFIX = "PROGAN_"
OF_THE_CLIENT = ("PROGAN_TARGET", "PROGAN_TOKEN")

# Kubernetes sets these for each Service in the namespace, here for one whose name begins with "progan".
_OF_A_SERVICE = re.compile(r"PROGAN_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_IN_RULE = re.compile(r"`(\w+)`")  # another setting
_ADDRESS_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")


class Given(NamedTuple):
    """A value that was given. `place` names where, as in PROGAN_PORT; `source` is flag, environment or file."""

    value: Any
    source: str
    place: str

    def place_of(self, one: Setting) -> str:
        """Return the name of another setting in the same source."""
        match self.source:
            case "flag":
                return one.flag
            case "environment":
                return one.variable
        return f"{self.place.rpartition(': ')[0]}: {one.name}"


_BY_FLAG = Given(None, "flag", "")


@dataclass(frozen=True)
class Sourced(Generic[C]):
    """A configuration, and where its values come from. Settings that were not given have their default."""

    config: C
    given: Mapping[str, Given]

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Every setting with its value, secrets masked, and its source. Values are those of JSON."""
        return {
            one.name: {
                "value": _plain(one, value),
                "from": self.given[one.name].source if one.name in self.given else "default",
            }
            for one, value in _values(self.config)
        }

    def __str__(self) -> str:
        """The values that were given, on one line."""
        given = [(name, entry) for name, entry in self.settings.items() if name in self.given]
        parts = [f"{name}={spell(entry['value'])} ({entry['from']})" for name, entry in given]
        return "; ".join([*parts, "the rest by default"])


def read_settings(
    config: type[C], *, flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None
) -> Sourced[C]:
    """Return a configuration of this class. Raises ConfigError, which names the place of the value.

    flags   values by the names of their settings, parsed
    file    in TOML
    """
    settings = {one.name: one for one in settings_of(config)}
    given = {
        **_of_file(settings, file),
        **_of_environment(settings, environment),
        **{name: Given(value, "flag", settings[name].flag) for name, value in flags.items()},
    }
    try:
        return Sourced(make(config, {name: value for name, (value, _, _) in given.items()}), given)
    except ConfigError as error:
        raise placed(error, settings, given) from error


def placed(error: ConfigError, settings: Mapping[str, Setting], given: Mapping[str, Given]) -> ConfigError:
    """Return the error with the place of each setting that it names: its flag, its variable or its key in the file.

    The first is that of the wrong value, the rule has others in backticks. One that was not given is named as if it
    stood beside the one that was.
    """
    field = error.field.partition(" ")[0]  # "heat at 8" is of the setting "heat"
    if field not in settings:
        return error
    others = [name for name in _IN_RULE.findall(error.rule) if name in settings]
    neighbour = next((given[name] for name in (field, *others) if name in given), _BY_FLAG)
    places = {name: given[name].place if name in given else neighbour.place_of(settings[name]) for name in settings}
    rule = error.rule
    for name in others:
        rule = rule.replace(f"`{name}`", places[name].rpartition(": ")[2])
    start = str(error).removeprefix(field).removesuffix(error.rule)
    return ConfigError(f"{places[field]}{start}{rule}", error.field, error.rule)


def make(config: type[C], values: Mapping[str, Any]) -> C:
    """Return a configuration with these values, by name. A name may be of a setting of a class within the class."""
    own = {one.name: values[one.name] for one in own_settings(config) if one.name in values}
    return config(**own, **{name: make(kind, values) for name, kind in nested(config).items()})


def unknown_variables(config: type[Settings], environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like one of a setting and is none."""
    known = {one.variable for one in settings_of(config)}
    return [
        f"{name} is no setting: did you mean {_nearest(name, known)}?"
        for name, value in environment.items()
        if name.startswith(PREFIX) and name not in known and not _is_foreign(name, value)
    ]


def _of_environment(settings: Mapping[str, Setting], environment: Mapping[str, str]) -> dict[str, Given]:
    """Return the values of variables. An empty variable counts as not given."""
    return {
        one.name: Given(_converted(one, one.kind.parse, text, one.variable), "environment", one.variable)
        for one in settings.values()
        if (text := environment.get(one.variable)) and not _is_foreign(one.variable, text)
    }


def _is_foreign(name: str, value: str) -> bool:
    """Return whether a variable belongs to the client, or describes a Service of Kubernetes."""
    if name in OF_THE_CLIENT or _OF_A_SERVICE.fullmatch(name):
        return True
    return name.endswith("_PORT") and _ADDRESS_OF_A_SERVICE.match(value) is not None


def _of_file(settings: Mapping[str, Setting], file: Path | None) -> dict[str, Given]:
    given = {}
    for name, value in _document(file).items() if file else ():
        if name not in settings:
            raise ConfigError(f"{file}: there is no setting {name!r}: did you mean {_nearest(name, settings)}?")
        place = f"{file}: {name}"
        given[name] = Given(_converted(settings[name], settings[name].kind.convert, value, place), "file", place)
    return given


def _document(file: Path) -> dict[str, Any]:
    text = content(file)
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not TOML: {error}") from error


def _converted(one: Setting, convert: Callable[[Any], Any], value: Any, place: str) -> Any:
    try:
        return convert(value)
    except ValueError:
        raise ConfigError(f"{place} is {one.shown(value)}: must be {one.kind.rule}") from None


def _nearest(name: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(name, list(known), 1, cutoff=0)[0]


def _values(config: Settings) -> list[tuple[Setting, Any]]:
    own = [(one, getattr(config, one.name)) for one in own_settings(type(config))]
    return own + [pair for name in nested(type(config)) for pair in _values(getattr(config, name))]


def _plain(one: Setting, value: Any) -> Any:
    """Return a value as JSON can hold it, secrets masked."""
    if one.secret and value:
        return MASK
    return str(value) if isinstance(value, Path) else value
