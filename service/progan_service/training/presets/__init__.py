"""Named training configurations, each a JSON file of this folder."""

import json
from importlib import resources
from typing import Any


def preset_names() -> list[str]:
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


def load_preset(name: str) -> dict[str, Any]:
    """The preset's "network" and "training" values, as its file has them; `name` is one of `preset_names`."""
    document: dict[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text())
    return document
