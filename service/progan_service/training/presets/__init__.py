"""Named training configurations, each a JSON file of this folder; a file of one's own has the same form.

    {"about": "One sentence.", "network": {"fmap_base": 4096}, "training": {"batch_sizes": {"4": 32, "16": 16}}}

The settings are those of NetworkConfig and TrainingConfig; one left out has the default of its class. A preset that is
meant for one resolution states it. Channels and labels are the dataset's.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from progan_service.checks import is_power_of_two
from progan_service.errors import ConfigError
from progan_service.host.files import content
from progan_service.model.config import NetworkConfig
from progan_service.training import earlier
from progan_service.training.config import TrainingConfig

FROM_DATASET = ("channels", "label_size")  # settings of NetworkConfig that no preset has

_PARTS = ("about", "network", "training")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}


@dataclass(frozen=True)
class Preset:
    """A configuration without a dataset.

    about       one sentence: what it is for, and where its figures come from
    network     all values of NetworkConfig but the dataset's; "resolution" only where the preset is meant for one
    training    the whole of it
    """

    about: str
    network: dict[str, Any]
    training: TrainingConfig

    def to_json(self) -> str:
        """Every setting with its value, in the form that `load_preset` takes."""
        document = {"about": self.about, "network": self.network, "training": asdict(self.training)}
        return json.dumps(document, indent=2) + "\n"


def preset_names() -> list[str]:
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


def load_preset(source: str) -> Preset:
    """The preset of that name, or, when `source` has a slash or ends with .json, of that file.

    Raises ConfigError for a name that is none, and, naming the file, for one that cannot be read, is no preset, or has
    a setting or a value that cannot be.
    """
    if source in preset_names():
        return _parse(resources.files(__name__).joinpath(f"{source}.json").read_text(encoding="utf-8"))
    if "/" not in source and not source.endswith(".json"):
        raise ConfigError(f"there is no preset {source!r}: {_instead(source, [*preset_names(), 'FILE.json'])}")
    text = content(Path(source))
    try:
        return _parse(text.decode())
    except ConfigError as error:
        raise ConfigError(f"preset {source}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"preset {source}: is no JSON: {error}") from None


def _parse(text: str) -> Preset:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ConfigError(f"must be an object with {', '.join(_PARTS)}")
    for part in document:
        if part not in _PARTS:
            raise ConfigError(f"there is no part {part!r}: a preset has {', '.join(_PARTS)}")
    about = _value("about", document.get("about", ""), str)
    network = _settings("network", document.get("network", {}), NetworkConfig)
    training = _settings("training", document.get("training", {}), TrainingConfig)
    complete = asdict(NetworkConfig(**{"resolution": 4} | network))
    unset = FROM_DATASET if "resolution" in network else (*FROM_DATASET, "resolution")
    return Preset(about, {n: v for n, v in complete.items() if n not in unset}, TrainingConfig(**training))


def _settings(part: str, document: Any, config: type) -> dict[str, Any]:
    """Values for the fields of `config`, from JSON; a name or a type that does not fit is an error."""
    if not isinstance(document, dict):
        raise ConfigError(f"{part} is {json.dumps(document)}: must be an object of settings and values")
    document, kinds = earlier.in_present_words(document), get_type_hints(config)
    known = [f.name for f in fields(config) if f.name not in FROM_DATASET]
    for name in document:
        if name in FROM_DATASET:
            raise ConfigError(f"{part}.{name}: comes from the dataset, a preset cannot set it")
        if name not in known:
            raise ConfigError(f"there is no setting {part}.{name}: {_instead(name, known)}")
    return {name: _value(f"{part}.{name}", value, kinds[name]) for name, value in document.items()}


def _value(name: str, value: Any, kind: Any) -> Any:
    """`value`, which must be of the field type `kind`."""
    if get_origin(kind) is Mapping:
        if type(value) in (int, float):
            value = {"4": value}  # one for all, as on the command line
        if not isinstance(value, dict):
            rule = 'must give values by resolution, such as {"4": 32, "16": 16}'
            raise ConfigError(f"{name} is {json.dumps(value)}: {rule}")
        return {
            _resolution(name, key): _value(f"{name} at {key}", one, get_args(kind)[1]) for key, one in value.items()
        }
    if kind is float and type(value) is float and value.is_integer():
        return int(value)  # 12.0 is 12: a run must not tell them apart
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ConfigError(f"{name} is {json.dumps(value)}: must be {_KINDS[kind]}")
    return value


def _resolution(name: str, text: str) -> int:
    if not text.isdecimal() or not is_power_of_two(int(text)):
        raise ConfigError(f"{name} has the resolution {text!r}: must be a power of two")
    return int(text)


def _instead(wrong: str, right: Collection[str]) -> str:
    """What may have been meant: the names that resemble it, or else all of them."""
    close = get_close_matches(wrong, right, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"must be one of {', '.join(right)}"
