"""A run directory belongs to one configuration, and to one process at a time."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

from progan_service.errors import ConfigError, FileError, MendableError
from progan_service.host.faults import named, require_utf8
from progan_service.host.files import is_partial, remove_partials, replaced
from progan_service.settings.field import Settings, own_settings
from progan_service.settings.kind import spell
from progan_service.training.config import CONCERNS, MAY_CHANGE, RunConfig
from progan_service.training.run.checkpoint import (
    DamagedCheckpointError,
    checkpoints,
    images_shown_at_checkpoint,
    read_checkpoint,
)

CONFIG_FILE = "config.json"
LOCK = ".lock"
_FLAGS = {
    f"{concern}.{one.name}": one.flag
    for concern, kind in CONCERNS.items()
    if issubclass(kind, Settings)
    for one in own_settings(kind)
}
"""The option of each setting, by the name of the setting."""


class RunBusyError(MendableError):
    """Another process is training this run."""


def claim_run_directory(run: Path, config: RunConfig) -> None:
    """Make the run directory, or go on with it; it belongs to this process until the process ends.

    Raises ConfigError for the directory of another run, naming every difference, and RunBusyError while another process
    has it.
    """
    require_utf8(run)
    file = run / CONFIG_FILE
    if before := begun_config(run):
        _require_same(run, before, config)
        config = replace(config, unknown=before.unknown)
    elif run.exists() and (not run.is_dir() or any(not is_partial(e) and e.name != LOCK for e in run.iterdir())):
        raise ConfigError(f"{run}: exists and is not a training run; give a new or empty directory")
    with named(run):
        run.mkdir(parents=True, exist_ok=True)
        _hold(run)
        remove_partials(run)
    if _is_passed(run, config.training.total_kimg):
        return  # nothing will be trained: what was trained stays on record as it was
    with replaced(file) as partial:
        partial.write_text(config.to_json())


def _is_passed(run: Path, total_kimg: float) -> bool:
    """Return whether a run is longer than that already, by a checkpoint that is whole."""
    return _has_shown(run, int(total_kimg * 1000) + 1)


def is_finished(run: Path, total_kimg: float) -> bool:
    """Return whether a run has reached its end, by a checkpoint that is whole."""
    return _has_shown(run, round(total_kimg * 1000))


def _has_shown(run: Path, images: int) -> bool:
    """Return whether the newest checkpoint that is whole was made after that many images, or more."""
    for checkpoint in checkpoints(run / "checkpoints"):
        if images_shown_at_checkpoint(checkpoint) < images:
            return False
        try:
            read_checkpoint(checkpoint)
        except DamagedCheckpointError:
            continue  # training reports it, and goes on from the next one
        return True
    return False


def marker_of(run: Path) -> Path:
    """Return what a run directory has as long as it exists: its configuration, or itself before it has one."""
    return run / CONFIG_FILE if (run / CONFIG_FILE).exists() else run


def require_present(marker: Path, run: Path) -> None:
    """Raise FileError if a run directory that had this marker was removed, or its mount is gone."""
    if not marker.exists():
        raise FileError(
            f"{run}: the directory of the run was removed, or its disk or mount is gone; put it back, and the same "
            "command goes on from its newest checkpoint"
        )


def _hold(run: Path) -> None:
    """Lock the run until the process ends. The lock file stays, and the descriptor is never closed."""
    descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunBusyError(f"{run}: another process is training it; wait for it to end, or stop it") from None


def begun_config(run: Path) -> RunConfig | None:
    """Return the configuration of a run, None if none was begun there. Raises ConfigError as `read_run_config`."""
    return read_run_config(run) if (run / CONFIG_FILE).is_file() else None


def config_of_begun(run: Path) -> RunConfig:
    """Return the configuration of a run. Raises ConfigError if none was begun there, and as `read_run_config`."""
    config = begun_config(run)
    if config is None:
        raise ConfigError(f"{run}: {why_no_run(run)}; give the directory of `progan train --run`")
    return config


def why_no_run(path: Path) -> str:
    """Return why a path without a configuration is no training run, as the end of a sentence."""
    return f"not a training run (no {CONFIG_FILE})" if path.exists() else "no such file or directory"


def read_run_config(run: Path) -> RunConfig:
    """Return the configuration that a run was begun with. Raises ConfigError, naming the file, when it holds none."""
    file = run / CONFIG_FILE
    try:
        with named(file):
            content = file.read_bytes()
        return RunConfig.from_json(content)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _require_same(run: Path, before: RunConfig, now: RunConfig) -> None:
    settings, data = _differences(before, now)
    if settings:
        raise ConfigError(
            f"{run}: began with other settings: {'; '.join(settings)}; to go on, leave out what differs (a --preset, "
            "too, if the value is from there), or name a new run"
        )
    parts = [part for part, digest in before.dataset.parts.items() if now.dataset.parts.get(part) != digest]
    if parts and not data:
        changed = ", ".join(part if part == "labels" else f"{part} images" for part in parts)
        data = [f"the dataset {now.dataset.name} has other {changed}"]
    if data:
        raise ConfigError(f"{run}: began with other data: {'; '.join(data)}; go on with the same or name a new run")


def _differences(before: RunConfig, now: RunConfig) -> tuple[list[str], list[str]]:
    """Return how settings differ that must not change, and how the data do."""
    settings, data, new = [], [], now.settings()
    for name, value in before.settings().items():
        if value == new[name] or name in MAY_CHANGE or name == "dataset.parts":
            continue
        if name == "network.label_size" and not (value and new[name]):
            settings.append(f"--labels was {spell(bool(value))}, is {spell(bool(new[name]))}")
        elif name.startswith("dataset.") or name in ("network.channels", "network.label_size"):
            data.append(f"{name} was {value!r}, is {new[name]!r}")
        else:
            flag = _FLAGS.get(name, name)
            settings.append(f"{flag} was {spell(value)}, is {spell(new[name])}")
    return settings, data
