"""Presets: named training configurations. Each is a JSON file in this folder; users write files of the same form.

    {"about": "One sentence.", "network": {"fmap_base": 4096}, "training": {"batch_sizes": {"4": 32, "16": 16}}}

The settings are those of NetworkConfig and TrainingConfig. A setting that is left out has its default. A preset for one
resolution contains it. Channels and labels come from the dataset.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from progan_service.errors import ConfigError
from progan_service.host.files import content
from progan_service.model.config import NetworkConfig
from progan_service.settings.field import Settings, own_settings
from progan_service.settings.kind import Kind, kind_of
from progan_service.training import earlier
from progan_service.training.config import TrainingConfig

DEFAULT_PRESET = "cpu-small"
FROM_DATASET = ("channels", "label_size")  # settings of NetworkConfig that no preset has

_PARTS = ("about", "network", "training")


@dataclass(frozen=True)
class Preset:
    """A configuration without a dataset.

    about      one sentence: its purpose, and the source of its values
    network    all settings of NetworkConfig; "resolution" only if the preset is for one
    named      the values that the preset itself gives, by the names of their settings
    """

    about: str
    network: dict[str, Any]
    training: TrainingConfig
    named: dict[str, Any] = field(compare=False)

    def to_json(self) -> str:
        """Return all settings with their values, in the form that `load_preset` reads."""
        document = {"about": self.about, "network": self.network, "training": asdict(self.training)}
        return json.dumps(document, indent=2) + "\n"


def preset_names() -> list[str]:
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


def load_preset(source: str) -> Preset:
    """Return the preset with this name, or in this file if `source` has a slash or ends with .json.

    Raises ConfigError for an unknown name, and for a file that cannot be read or is no preset; the message names it.
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
    about = _value("about", document.get("about", ""), kind_of(str))
    network = _settings("network", document.get("network", {}), NetworkConfig)
    training = _settings("training", document.get("training", {}), TrainingConfig)
    complete = NetworkConfig(**{"resolution": 4} | network)
    names = [one.name for one in own_settings(NetworkConfig) if one.name != "resolution" or "resolution" in network]
    all_of_network = {name: getattr(complete, name) for name in names}
    return Preset(about, all_of_network, TrainingConfig(**training), named=network | training)


def _settings(part: str, document: Any, config: type[Settings]) -> dict[str, Any]:
    """Return values of the settings of a class, by name. Raises ConfigError for another name or type."""
    if not isinstance(document, dict):
        raise ConfigError(f"{part} is {json.dumps(document)}: must be an object of settings and values")
    known = {one.name: one for one in own_settings(config)}
    values = {}
    for name, value in earlier.in_present_words(document).items():
        if name in FROM_DATASET:
            raise ConfigError(f"{part}.{name}: comes from the dataset, a preset cannot set it")
        if name not in known:
            raise ConfigError(f"there is no setting {part}.{name}: {_instead(name, known)}")
        values[name] = _value(f"{part}.{name}", value, known[name].kind)
    return values


def _value(name: str, value: Any, kind: Kind) -> Any:
    try:
        return kind.convert(value)
    except ValueError:
        raise ConfigError(f"{name} is {json.dumps(value)}: must be {kind.rule}") from None


def _instead(wrong: str, right: Collection[str]) -> str:
    """Return a hint: the names that are similar, or else all names."""
    close = get_close_matches(wrong, right, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"must be one of {', '.join(right)}"
