"""The configuration of a run: that of a new one from preset, options and dataset; that of one that goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from progan_service.checks import resolutions_up_to
from progan_service.data.dataset import Dataset
from progan_service.errors import ConfigError
from progan_service.label_kind import LabelKind
from progan_service.model.config import NetworkConfig
from progan_service.settings.field import own_settings
from progan_service.settings.source import placed
from progan_service.training.config import DatasetConfig, InitConfig, RunConfig, SetupConfig, TrainingConfig
from progan_service.training.presets import DEFAULT_PRESET, load_preset
from progan_service.training.run.directory import CONFIG_FILE

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """What was given for a run. None means: as the run has it, or the default for a new one.

    settings   values by the names of settings; they override those of the preset
    init       what a new run begins with
    """

    preset: str | None
    settings: Mapping[str, Any]
    labels: bool | None
    auto_batch: bool | None
    deterministic: bool | None
    init: InitConfig = field(default_factory=InitConfig)


def data_of(run: Path, before: RunConfig | None) -> Path:
    """Return the place of the dataset that a run was begun with. Raises ConfigError if it is not known or empty."""
    if before is None:
        raise ConfigError(f"{run}: no run was begun there: give --data DIR to begin one, or the directory of a run")
    if not before.setup.data:
        raise ConfigError(f"{run}/{CONFIG_FILE}: does not say where the data lies: give --data DIR, this once")
    if not Path(before.setup.data).exists():
        raise ConfigError(f"{run}: its data is not in {before.setup.data} any more: give --data DIR with its new place")
    return Path(before.setup.data)


def config_of(run: Path, before: RunConfig | None, dataset: Dataset, given: Given) -> RunConfig:
    """Return the configuration of a run.

    before   that of a run that goes on: it differs only in what was given, and in what the dataset has now
    Raises ConfigError for values that do not fit together.
    """
    setup = before.setup if before else SetupConfig()
    setup = replace(
        setup,
        data=str(dataset.directory.absolute()),
        auto_batch=_either(given.auto_batch, setup.auto_batch),
        deterministic=_either(given.deterministic, setup.deterministic),
    )
    try:
        config = _continued(run, before, dataset, given) if before else _new(dataset, given)
    except ConfigError as error:
        known = {one.name: one for config in (NetworkConfig, TrainingConfig) for one in own_settings(config)}
        raise placed(error, known, given={}) from error  # by its flag, which a value of a preset has, too
    return replace(config, setup=setup)


def _new(dataset: Dataset, given: Given) -> RunConfig:
    """Return the configuration of a new run."""
    name = given.preset or DEFAULT_PRESET
    preset = load_preset(name)
    network = preset.network | _only(NetworkConfig, given.settings)
    network["resolution"] = _resolution(
        dataset, name, preset.network.get("resolution"), given.settings.get("resolution")
    )
    training = _only(TrainingConfig, given.settings)
    if given.init.digest:
        training = {"initial_resolution": min(given.init.resolution, network["resolution"]), **training}
    found = _dataset_config(dataset, network["resolution"], labels=bool(given.labels))
    return RunConfig(
        found,
        NetworkConfig(channels=dataset.channels, label_size=len(found.label_names), **network),
        replace(preset.training, **training),
        init=given.init,
    )


def _continued(run: Path, before: RunConfig, dataset: Dataset, given: Given) -> RunConfig:
    """Return the configuration of a run with what was given in place of what it began with, even if it must not."""
    settings = {**(load_preset(given.preset).named if given.preset else {}), **given.settings}
    network = replace(before.network, **_only(NetworkConfig, settings))
    if network.resolution > dataset.resolution:
        raise ConfigError(
            f"{run}: needs images of {network.resolution}x{network.resolution}, {dataset.directory} has "
            f"{dataset.resolution}x{dataset.resolution} at most"
        )
    found = _dataset_config(dataset, network.resolution, labels=_either(given.labels, bool(before.network.label_size)))
    return RunConfig(
        found,
        replace(network, channels=dataset.channels, label_size=len(found.label_names)),
        replace(before.training, **_only(TrainingConfig, settings)),
        init=replace(before.init, source=given.init.source or before.init.source),
        unknown=before.unknown,
    )


def _either(given: T | None, else_: T) -> T:
    return else_ if given is None else given


def _dataset_config(dataset: Dataset, resolution: int, *, labels: bool) -> DatasetConfig:
    """Return what a run up to a resolution takes from a dataset. Raises ConfigError for labels it cannot learn."""
    names: tuple[str, ...] = _label_names(dataset) if labels else ()
    kind: LabelKind = dataset.label_kind if labels else "classes"
    license_text = (dataset.manifest and dataset.manifest.license_text) or ""
    parts = _parts(dataset, resolution, labels)
    return DatasetConfig(dataset.name, dataset.count, dataset.digest, names, license_text, parts, kind)


def _parts(dataset: Dataset, resolution: int, labels: bool) -> dict[str, str]:
    """Return the digests of what a run reads: images up to its resolution, and labels if it learns them."""
    read = {*(f"{size}x{size}" for size in resolutions_up_to(resolution)), *(["labels"] if labels else [])}
    return {part: digest for part, digest in dataset.digests.items() if part in read}


def _only(config: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the settings of this class."""
    return {one.name: settings[one.name] for one in own_settings(config) if one.name in settings}


def _resolution(dataset: Dataset, preset: str, of_preset: int | None, given: int | None) -> int:
    """Return the final resolution: that of the option, else of the preset, else of the dataset, which must have it."""
    resolution = given if given is not None else of_preset or dataset.resolution
    if resolution <= dataset.resolution:
        return resolution
    if given is None:
        raise ConfigError(
            f"preset {preset} is meant for {resolution}x{resolution} images, {dataset.directory} has "
            f"{dataset.resolution}x{dataset.resolution} at most: --resolution {dataset.resolution} trains a smaller one"
        )
    raise ConfigError(f"--resolution is {resolution}: the dataset has images of {dataset.resolution} at most")


def _label_names(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the labels, one per column. Raises ConfigError for labels that are not of their kind."""
    labels, rule = dataset.labels, "--labels needs attributes that are 0 or 1"
    if labels is None or not labels.shape[1]:
        raise ConfigError(
            f"{dataset.directory}: has no labels: add some with `progan dataset label`, or train without --labels"
        )
    fits = ((labels == 0) | (labels == 1)).all(axis=1)
    if dataset.label_kind == "classes":
        fits &= labels.sum(axis=1) == 1
        rule = "--labels needs one-hot rows, a single 1 among 0s, or attributes (label_kind in dataset.json)"
    if not fits.all():
        row = int(np.argmin(fits))
        shown = np.array2string(labels[row], threshold=8)
        raise ConfigError(f"{dataset.directory}: row {row} of the labels is {shown}: {rule}")
    return dataset.label_names
