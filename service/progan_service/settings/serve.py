"""The settings of `progan serve`: one table, and the flag, environment variable and file key that it makes of each."""

import argparse
import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from progan_service.errors import ConfigError
from progan_service.host.files import content
from progan_service.serving.config import ServerConfig
from progan_service.settings.train import ManualPage

DESCRIPTION = """\
Serve the newest good version of every model of a store, or the one pinned by
`progan models pin`. A version that appears is verified and warmed up aside and
then takes over; a bad one is reported, and the old one goes on.

settings:
  A setting has the value of its flag; without one, that of its environment
  variable; without one, that of the file named by --config; or else its
  default, which stands in parentheses below. The flag --max-images is
  PROGAN_MAX_IMAGES in the environment and max_images in the file, which is
  TOML. A switch such as --log-requests is true or false there.

ending:
  SIGTERM or Ctrl-C: first it says not ready and serves on (lame duck), then it
  refuses new work and finishes what is in flight (drain), and ends with 0. A
  second signal ends it at once."""

EXAMPLES = """\
examples:
  The bundled model, on this machine only:
    progan serve

  Your own models, for other machines:
    progan serve --store models --host 0.0.0.0

  A store in Google Cloud Storage, with a copy that is kept between starts:
    progan serve --store gs://bucket/models --cache /var/cache/progan

  What is the same everywhere from a file, what differs from the environment:
    PROGAN_PORT=9000 progan serve --config progan.toml

  where progan.toml says, for example:
    store = "/models"
    max_batch_size = 32
    log_format = "json" """.rstrip()


class Setting(NamedTuple):
    """One setting; its type and its default are those of its field.

    value_name   what its value is called in the manual
    field        of ServerConfig or of a configuration in it, where it is not named as the setting
    secret       its value is never told
    """

    name: str
    value_name: str
    meaning: str
    field: str = ""
    secret: bool = False

    @property
    def key(self) -> str:
        return self.field or self.name


# Every field of ServerConfig has a line here, and that is all a new one takes.
SETTINGS: dict[str, list[Setting]] = {
    "model store": [
        Setting("store", "DIR|URL", "a directory, or a URL that TensorFlow reads (the bundled model)"),
        Setting("cache", "DIR", "where a store behind a URL is copied to (a temporary directory)"),
        Setting("model", "NAME", "the model of requests that name none (the only one)", field="default_model"),
        Setting("poll_s", "S", "seconds between two looks at the store"),
    ],
    "listening": [
        Setting("host", "ADDRESS", "address to listen on; 0.0.0.0 takes calls from other machines"),
        Setting("port", "PORT", "of gRPC; 0 takes a free one"),
        Setting("http_port", "PORT", "of /metrics, /livez and /readyz; 0 takes a free one"),
    ],
    "security": [
        Setting("tls_cert", "FILE", "PEM: its certificate and those that vouch for it (no TLS)"),
        Setting("tls_key", "FILE", "PEM: the key of the certificate"),
        Setting("client_ca", "FILE", "PEM: whoever signs clients' certificates, which they then need (mTLS)"),
        Setting("tokens", "FILE", "lines NAME TOKEN; calls need one of the tokens (none)"),
    ],
    "limits": [
        Setting("max_images", "N", "images one unary call may ask for"),
        Setting("max_message_bytes", "N", "size of one request or reply"),
    ],
    "devices": [
        Setting("replicas", "N", "batches computed at a time without GPUs; with GPUs it is one for each"),
        Setting(
            "precision",
            "{float32,bfloat16,auto}",
            "of the arithmetic; auto: bfloat16 within 40 dB and 1.1 times as fast",
        ),
        Setting("hang_s", "S", "seconds after which a batch counts as hanging: its model is not ready until it ends"),
    ],
    "batching": [
        Setting("max_batch_size", "N", "images the device computes at once"),
        Setting("allowed_batch_sizes", "N,N", "sizes that batches are filled up to, rising to --max-batch-size"),
        Setting("max_queued_rows", "N", "images that may wait; a request that does not fit is refused"),
    ],
    "life": [
        Setting("lame_duck_s", "S", "seconds of serving on after SIGTERM"),
        Setting("drain_s", "S", "seconds that work in flight may take after that"),
    ],
    "logging": [
        Setting("log_format", "{auto,text,json}", "one JSON object a line, or text; auto: text on a terminal"),
        Setting("log_level", "{debug,info,warning,error}", "the least important that is told"),
        Setting("log_requests", "", "a line for each call"),
    ],
}
_BY_NAME = {setting.name: setting for group in SETTINGS.values() for setting in group}
_MASK = "***"


class Given(NamedTuple):
    """A value that is no default; `place` is what its giver calls it, such as PROGAN_PORT."""

    value: Any
    source: str  # "flag", "environment" or "file"
    place: str


@dataclass(frozen=True)
class Configuration:
    """What the server runs with, and where it comes from; a setting that was not given has its default."""

    config: ServerConfig
    given: Mapping[str, Given]

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Every setting: its value, secrets masked, and its source."""
        values = _flat(self.config)
        return {
            name: {
                "value": _told(setting, values[setting.key]),
                "from": self.given[name].source if name in self.given else "default",
            }
            for name, setting in _BY_NAME.items()
        }

    def __str__(self) -> str:
        """What is no default, in one line."""
        told = [f"{name}={_spelled(entry['value'])} ({entry['from']})" for name, entry in self.settings.items()]
        return "; ".join([*(entry for entry in told if not entry.endswith(" (default)")), "the rest by default"])


def configuration(arguments: argparse.Namespace) -> Configuration:
    """Flags before environment before file before defaults. Raises ConfigError, which names the place of the value."""
    given = _of_file(arguments.config) | _of_environment(arguments.environment) | _of_flags(arguments)
    try:
        config = _made(ServerConfig, {_BY_NAME[name].key: value for name, (value, _, _) in given.items()})
    except ConfigError as error:
        setting = next((s for s in _BY_NAME.values() if s.key == error.field and s.name in given), None)
        if setting is None:
            raise
        problem = f" is {_MASK}: {error.rule}" if setting.secret else str(error).removeprefix(error.field)
        raise ConfigError(given[setting.name].place + problem) from error
    return Configuration(config, given)


def add_to(command: argparse.ArgumentParser) -> None:
    """Make `command` the parser of `progan serve`: what is given becomes an argument named as its setting."""
    command.formatter_class = ManualPage
    command.usage = "%(prog)s [--config FILE] [--SETTING VALUE ...]"
    command.description, command.epilog = DESCRIPTION, EXAMPLES
    command.add_argument("--config", type=Path, metavar="FILE", help="where settings come from that are not given")
    kinds, defaults = _kinds(ServerConfig), _flat(ServerConfig())
    for title, settings in SETTINGS.items():
        group = command.add_argument_group(title)
        for setting in settings:
            meaning = setting.meaning + _default(defaults[setting.key])
            group.add_argument(_flag(setting.name), help=meaning, **_takes(kinds[setting.key], setting.value_name))


def _of_flags(arguments: argparse.Namespace) -> dict[str, Given]:
    values = {name: getattr(arguments, name) for name in _BY_NAME}
    return {name: Given(value, "flag", _flag(name)) for name, value in values.items() if value is not None}


def _of_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    """Names that are no setting's are somebody else's."""
    kinds, given = _kinds(ServerConfig), {}
    for name, setting in _BY_NAME.items():
        place = "PROGAN_" + name.upper()
        if place in environment:
            value = _parsed(setting, kinds[setting.key], environment[place], environment[place], place)
            given[name] = Given(value, "environment", place)
    return given


def _of_file(path: Path | None) -> dict[str, Given]:
    kinds, given = _kinds(ServerConfig), {}
    for name, value in _document(path).items() if path else ():
        if name not in _BY_NAME:
            nearest = difflib.get_close_matches(name, _BY_NAME, 1, cutoff=0)[0]
            raise ConfigError(f"{path}: there is no setting {name!r}: did you mean {nearest}?")
        setting, place = _BY_NAME[name], f"{path}: {name}"
        kind = kinds[setting.key]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        fits = type(value) in _KINDS[kind].in_file
        given[name] = Given(_parsed(setting, kind, text if fits else None, value, place), "file", place)
    return given


def _document(path: Path) -> dict[str, Any]:
    text = content(path)
    try:
        return tomllib.loads(text.decode())
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _parsed(setting: Setting, kind: Any, text: str | None, shown: object, place: str) -> Any:
    """The value that a text is, None being none. Raises ConfigError, which shows what was given there."""
    try:
        if text is not None:
            return _KINDS[kind].parse(text)
    except ValueError:
        pass
    shown = _MASK if setting.secret else repr(shown)
    raise ConfigError(f"{place} is {shown}: must be {_KINDS[kind].rule}")


class _Kind(NamedTuple):
    """Values of one type: what they are, how a text becomes one, and which TOML types may be one."""

    rule: str
    parse: Callable[[str], Any]
    in_file: tuple[type, ...]


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _store(text: str) -> Path | str:
    return text if "://" in text else Path(text)


_KINDS: dict[Any, _Kind] = {
    int: _Kind("a whole number", int, (int,)),
    float: _Kind("a number", float, (int, float)),
    bool: _Kind("true or false", _truth, (bool,)),
    str: _Kind("a text", str, (str,)),
    Path | str: _Kind("a directory or a URL", _store, (str,)),
    Path | None: _Kind("a path", Path, (str,)),
    tuple[int, ...]: _Kind(
        "whole numbers, such as 1,4,16", lambda text: tuple(int(n) for n in text.split(",")), (list,)
    ),
}


def _takes(kind: Any, value_name: str) -> dict[str, Any]:
    """What add_argument needs to read a value of the field type `kind`; None stands for "not given"."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}

    def parse(text: str) -> Any:
        try:
            return _KINDS[kind].parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {_KINDS[kind].rule}") from None

    return {"type": parse, "metavar": value_name}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _default(value: Any) -> str:
    """A default as it would be given, in parentheses; nothing where the meaning has to tell it."""
    return "" if value in ("", None) or isinstance(value, Path) else f" ({_spelled(value)})"


def _spelled(value: Any) -> str:
    """A value as the environment would have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _told(setting: Setting, value: Any) -> Any:
    """A value as JSON can hold it."""
    if setting.secret and value:
        return _MASK
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value


def _kinds(config: Any) -> dict[str, Any]:
    """Field -> type, of a configuration class and of those in it."""
    kinds = {}
    for name, kind in get_type_hints(config).items():
        kinds.update(_kinds(kind) if is_dataclass(kind) else {name: kind})
    return kinds


def _flat(config: Any) -> dict[str, Any]:
    """Field -> value, of a configuration and of those in it."""
    values = {}
    for field in fields(config):
        value = getattr(config, field.name)
        values.update(_flat(value) if is_dataclass(value) else {field.name: value})
    return values


def _made(config: Any, values: Mapping[str, Any]) -> Any:
    """A configuration of this class, and those in it, of the values that are given."""
    kinds = get_type_hints(config)
    parts = {name: _made(kind, values) for name, kind in kinds.items() if is_dataclass(kind)}
    return config(**parts, **{name: values[name] for name in kinds.keys() & values.keys()})
