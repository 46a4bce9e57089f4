"""A run directory belongs to one configuration: written at the start, compared at every resume."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from progan_service.config import ConfigError, RunConfig

CONFIG_FILE = "config.json"
_PARTIAL = ".config.json"
MAY_CHANGE = {"training.total_kimg", "training.tick_kimg", "dataset.licence"}  # still the same run


def claim_run_directory(run: Path, config: RunConfig) -> None:
    """Make the run directory, or go on with it. Raises ConfigError, naming every difference, for another run's."""
    file = run / CONFIG_FILE
    if file.is_file():
        _require_same(run, read_run_config(run), config)
    elif run.exists() and (not run.is_dir() or any(entry.name != _PARTIAL for entry in run.iterdir())):
        raise ConfigError(f"{run}: exists and is not a training run; give a new or empty directory")
    run.mkdir(parents=True, exist_ok=True)
    partial = run / _PARTIAL
    partial.write_text(config.to_json())
    partial.replace(file)


def read_run_config(run: Path) -> RunConfig:
    """The configuration that a run was begun with. Raises ConfigError, naming the file, when it holds none."""
    file = run / CONFIG_FILE
    try:
        return RunConfig.from_json(file.read_text())
    except ValueError as error:  # a ConfigError, or no text at all
        raise ConfigError(f"{file}: {error}") from error


def _require_same(run: Path, before: RunConfig, now: RunConfig) -> None:
    old, new = _flat(asdict(before)), _flat(asdict(now))
    different = [
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in MAY_CHANGE
    ]
    if different:
        raise ConfigError(
            f"{run}: began with another configuration: {'; '.join(different)}; go on with the same or name a new run"
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
