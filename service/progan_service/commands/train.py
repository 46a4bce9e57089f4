"""TODO"""

import argparse
import shutil
import signal
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes
from progan_service.errors import ConfigError
from progan_service.host.tensorflow import import_tensorflow
from progan_service.training.config import TrainingConfig

if TYPE_CHECKING:
    from progan_service.data.dataset import Dataset
    from progan_service.training.config import RunConfig
from progan_service.commands.terminal import progress_bars, say


def train(arguments: argparse.Namespace) -> int:
    stopped: list[int] = []
    _note_signals(stopped)

    from progan_service.data.dataset import Dataset
    from progan_service.training.run.directory import claim_run_directory

    dataset = Dataset.open(arguments.data)
    config = run_config(arguments, dataset)
    import_tensorflow()
    from progan_service.training import devices, trainer

    workers = devices.Workers.from_json(arguments.tf_config) if arguments.tf_config else None
    if workers and arguments.auto_batch:
        raise ConfigError("--auto-batch is for one worker: give batches that fit, as its dry run finds them")
    chief = workers is None or workers.chief
    if chief and not arguments.dry_run:
        claim_run_directory(arguments.run_directory, config)
    if arguments.deterministic:
        devices.make_deterministic()
    strategy = devices.choose_strategy(workers, say)
    _note_signals(stopped)  # again: TensorFlow has taken them over
    shared: dict[str, Any] = {
        "auto_batch": arguments.auto_batch,
        "strategy": strategy,
        "stopping": lambda: bool(stopped),
    }
    if arguments.dry_run:
        trainer.dry_run(config, dataset, report=say, **shared)
        return exit_codes.PREEMPTED if stopped else exit_codes.DONE
    with progress_bars(transient=True) as progress, devices.lost_workers():
        finished = trainer.train(
            arguments.run_directory,
            config,
            dataset,
            report=say if chief else lambda _: None,
            progress=lambda done, total: progress("training", done, total),
            chief=chief,
            **shared,
        )
    if not finished:
        say("stopped by a signal; everything is saved, the same command goes on")
        return exit_codes.PREEMPTED
    say(f"done: progan export {arguments.run_directory} --store DIR --name NAME makes it servable")
    return exit_codes.DONE


def _note_signals(noted: list[int]) -> None:
    """From now on SIGTERM and SIGINT are only noted."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: noted.append(number))


def run_config(arguments: argparse.Namespace, dataset: "Dataset") -> "RunConfig":
    """What `progan train` with these arguments trains. Raises ConfigError for what cannot be."""
    from progan_service.model.config import NetworkConfig
    from progan_service.training.config import DatasetConfig, RunConfig
    from progan_service.training.presets import load_preset

    preset = load_preset(arguments.preset)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    network = preset.network | {n: given[n] for n in NetworkConfig.__dataclass_fields__ if n in given}
    training = {n: given[n] for n in TrainingConfig.__dataclass_fields__ if n in given}
    network["resolution"] = _resolution(arguments, preset.network.get("resolution", dataset.resolution), dataset)
    label_names = _label_names(dataset) if arguments.labels else ()
    license_text = (dataset.manifest and dataset.manifest.license_text) or ""
    return RunConfig(
        DatasetConfig(dataset.name, dataset.count, dataset.digest, label_names, license_text),
        NetworkConfig(channels=dataset.channels, label_size=len(label_names), **network),
        replace(preset.training, **training),
    )


def _resolution(arguments: argparse.Namespace, meant_for: int, dataset: "Dataset") -> int:
    """The final resolution: the one asked for, or else what the preset is meant for. The dataset must have it."""
    resolution: int = meant_for if arguments.resolution is None else arguments.resolution
    if resolution <= dataset.resolution:
        return resolution
    if arguments.resolution is None:
        raise ConfigError(
            f"preset {arguments.preset} is meant for {resolution}x{resolution} images, {dataset.directory} has "
            f"{dataset.resolution}x{dataset.resolution} at most: --resolution {dataset.resolution} trains a smaller one"
        )
    raise ConfigError(f"resolution is {resolution}: the dataset has images of {dataset.resolution} at most")


def _label_names(dataset: "Dataset") -> tuple[str, ...]:
    """Names of the labels to train with, one a column; each image must have exactly one of them."""
    import numpy as np

    labels = dataset.labels
    if labels is None or not labels.shape[1]:
        raise ConfigError(f"{dataset.directory}: has no labels: train it without --labels")
    one_hot = ((labels == 0) | (labels == 1)).all(axis=1) & (labels.sum(axis=1) == 1)
    if not one_hot.all():
        row = int(np.argmin(one_hot))
        shown = np.array2string(labels[row], threshold=8)
        raise ConfigError(
            f"{dataset.directory}: row {row} of the labels is {shown}: --labels needs one-hot rows, a single 1 among 0s"
        )
    return dataset.label_names


def presets(arguments: argparse.Namespace) -> int:
    from progan_service.training.presets import load_preset, preset_names

    if arguments.preset:
        print(load_preset(arguments.preset).to_json(), end="")
        return exit_codes.DONE
    width = min(shutil.get_terminal_size().columns, 100)
    for name in preset_names():
        about = textwrap.fill(load_preset(name).about, width, initial_indent="    ", subsequent_indent="    ")
        print(f"{name}\n{about}")
    return exit_codes.DONE
