"""What the `progan` commands do; each takes the parsed arguments and gives the exit code.

They import what they need when they run: no command pays for TensorFlow that does without it.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes, serve_options
from progan_service.config import ConfigError, TrainingConfig
from progan_service.errors import BadInputError
from progan_service.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from progan_service.config import RunConfig
    from progan_service.data.dataset import Dataset
    from progan_service.export import Exportable
    from progan_service.weights import TrainedGenerator


def serve(arguments: argparse.Namespace) -> int:
    import uvloop

    from progan_service.serving import logs, server, traces

    configuration = serve_options.configuration(arguments)
    config = configuration.config
    with logs.telling(config.logs), traces.exporting(arguments.environment):
        logs.announce(f"configuration: {configuration}", settings=configuration.settings)
        try:
            uvloop.run(server.serve(config))
        except (BadInputError, OSError, server.ListenError) as error:
            print(logs.complaint(config.logs, str(error)), file=sys.stderr)
            return exit_codes.BAD_CONFIG if isinstance(error, BadInputError) else exit_codes.FAILED
    return exit_codes.DONE


def build_dataset(arguments: argparse.Namespace) -> int:
    from progan_service.data import build

    import_tensorflow()
    with _progress_bars() as progress:
        summary = build.build_dataset(arguments.source, arguments.out, arguments.resolution, arguments.fit, progress)
    size = f"{summary.resolution}x{summary.resolution}"
    print(
        f"{summary.directory}: {summary.image_count} images, 4x4 to {size}; {summary.ignored_count} other files ignored"
    )
    return exit_codes.DONE


def draw_dataset(arguments: argparse.Namespace) -> int:
    from progan_service.data.demo import build_demo

    import_tensorflow()
    with _progress_bars() as progress:
        build_demo(arguments.out, arguments.resolution, arguments.count, arguments.seed, progress, arguments.label)
    print(f"{arguments.out}: {arguments.count} faces, 4x4 to {arguments.resolution}x{arguments.resolution}")
    return exit_codes.DONE


def train(arguments: argparse.Namespace) -> int:
    stopped: list[int] = []
    _note_signals(stopped)

    from progan_service.data.dataset import Dataset
    from progan_service.training.run_directory import claim_run_directory

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
    strategy = devices.choose_strategy(workers, _say)
    _note_signals(stopped)  # again: TensorFlow has taken them over
    shared: dict[str, Any] = {
        "auto_batch": arguments.auto_batch,
        "strategy": strategy,
        "stopping": lambda: bool(stopped),
    }
    if arguments.dry_run:
        trainer.dry_run(config, dataset, report=_say, **shared)
        return exit_codes.PREEMPTED if stopped else exit_codes.DONE
    try:
        with _progress_bars(transient=True) as progress, devices.lost_workers():
            finished = trainer.train(
                arguments.run_directory,
                config,
                dataset,
                report=_say if chief else lambda _: None,
                progress=lambda done, total: progress("training", done, total),
                chief=chief,
                **shared,
            )
    except devices.WorkerLostError as error:
        print(f"progan: {error}", file=sys.stderr)
        return exit_codes.PREEMPTED
    if not finished:
        _say("stopped by a signal; everything is saved, the same command goes on")
        return exit_codes.PREEMPTED
    _say(f"done: progan export {arguments.run_directory} --store DIR --name NAME makes it servable")
    return exit_codes.DONE


def _note_signals(noted: list[int]) -> None:
    """From now on SIGTERM and SIGINT are only noted."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: noted.append(number))


def run_config(arguments: argparse.Namespace, dataset: "Dataset") -> "RunConfig":
    """What `progan train` with these arguments trains. Raises ConfigError for what cannot be."""
    from progan_service.config import DatasetConfig, NetworkConfig, RunConfig
    from progan_service.training.presets import load_preset

    preset = load_preset(arguments.preset)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    network = preset.network | {n: given[n] for n in NetworkConfig.__dataclass_fields__ if n in given}
    training = {n: given[n] for n in TrainingConfig.__dataclass_fields__ if n in given}
    network["resolution"] = _resolution(arguments, preset.network.get("resolution", dataset.resolution), dataset)
    label_names = _label_names(dataset) if arguments.labels else ()
    licence = (dataset.manifest and dataset.manifest.license_text) or ""
    return RunConfig(
        DatasetConfig(dataset.name, dataset.count, dataset.digest, label_names, licence),
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


def evaluate(arguments: argparse.Namespace) -> int:
    from progan_service.data.dataset import Dataset

    count, seed = arguments.images, arguments.seed
    if count < 2:
        raise ConfigError(f"images is {count}: must be 2 or more")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"seed is {seed}: must be 0 or more, and below 2^31")
    dataset = Dataset.open(arguments.data)
    import_tensorflow()
    from progan_service.evaluation.images import ImageSetError
    from progan_service.sources.fakes import Fakes
    from progan_service.training.metrics import fake_inputs, measure_reals

    fakes = Fakes.open(arguments.source)
    columns = 0 if dataset.labels is None else dataset.labels.shape[1]
    if fakes.label_size not in (0, columns):
        raise ConfigError(f"{dataset.directory}: has {columns} labels, {arguments.source} needs {fakes.label_size}")
    latents, labels = fake_inputs(dataset, fakes.latent_size, fakes.label_size, count=count, seed=seed)
    try:
        with (
            _progress_bars(transient=True) as progress,
            measure_reals(
                dataset, fakes.resolution, image_count=count, seed=seed, mirror=fakes.mirror, progress=progress
            ) as reals,
        ):
            evaluation = reals.evaluate(fakes.draw(latents, labels), progress=progress)
    except ImageSetError as error:
        raise ConfigError(str(error)) from error
    print(evaluation.table())
    if arguments.json:
        arguments.json.write_text(evaluation.to_json())
    return exit_codes.DONE


def export(arguments: argparse.Namespace) -> int:
    from progan_service.model_store import ModelStore, check_model_name

    check_model_name(arguments.name)
    if arguments.store.exists():
        ModelStore(arguments.store)
    import_tensorflow()
    from progan_service.export import Exportable, export_version

    with _opened_source(arguments) as source:
        exportable = source if isinstance(source, Exportable) else Exportable.of(source)
        arguments.store.mkdir(parents=True, exist_ok=True)
        store = ModelStore(arguments.store)
        version = export_version(exportable, store, arguments.name)
    metadata = store.metadata(arguments.name, version)
    size = f"{metadata.resolution}x{metadata.resolution}"
    print(f"{store.path(arguments.name, version)}: {arguments.name} version {version}, {size}, from {metadata.source}")
    for about in ("form", "reason", "sha256", "license"):
        if metadata.provenance.get(about):
            print(f"  {about}: {metadata.provenance[about]}")
    for signature, algorithms in metadata.algorithms.items():
        print(f"  {signature}: {'; '.join(f'{layer} {algorithm}' for layer, algorithm in algorithms.items())}")
    return exit_codes.DONE


def weights(arguments: argparse.Namespace) -> int:
    if arguments.out.exists():
        raise ConfigError(f"{arguments.out}: already exists: give the name of a new file")
    import_tensorflow()
    from progan_service.weights import TrainedGenerator, check_weights_name, save_weights

    check_weights_name(arguments.out)
    with _opened_source(arguments) as source:
        if not isinstance(source, TrainedGenerator):
            reason = source.provenance.get("reason")
            raise ConfigError(f"{arguments.source}: its weights are not those of a generator of ours: {reason}")
        save_weights(source, arguments.out)
    print(f"{arguments.out}: weights of {arguments.source}, {source.resolution}x{source.resolution}")
    return exit_codes.DONE


@contextmanager
def _opened_source(arguments: argparse.Namespace) -> "Iterator[TrainedGenerator | Exportable]":
    from progan_service.sources.source import open_source

    with tempfile.TemporaryDirectory(prefix="progan-") as staging, _progress_bars(transient=True) as progress:

        def in_megabytes(stage: str, done: int, total: int) -> None:
            progress(f"{stage}, MB", done // 10**6, total // 10**6)

        yield open_source(arguments.source, Path(staging), sha256=arguments.sha256, progress=in_megabytes)


def _say(line: str) -> None:
    """Print a line of long work, which goes on when nobody reads it any more."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _progress_bars(transient: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total or 0) that draws one bar a stage, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=transient, disable=not console.is_terminal) as bars:
        stages: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total or None)
            bars.update(stages[stage], completed=done)

        yield progress
