"""What the `progan` commands do; each takes the parsed arguments and gives the exit code.

They import what they need when they run: no command pays for TensorFlow that does without it.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes
from progan_service.config import BatchingConfig, ConfigError, ServerConfig, TrainingConfig
from progan_service.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from progan_service.config import RunConfig
    from progan_service.data.dataset import Dataset


def serve(arguments: argparse.Namespace) -> int:
    from progan_service.serving import server

    config = ServerConfig(
        store=arguments.store,
        default_model=arguments.model,
        host=arguments.host,
        port=arguments.port,
        http_port=arguments.http_port,
        max_images=arguments.max_images,
        lame_duck_s=arguments.lame_duck_s,
        drain_s=arguments.drain_s,
        batching=BatchingConfig(max_batch_size=arguments.max_batch_size, max_queued_rows=arguments.max_queued_rows),
    )
    try:
        asyncio.run(server.serve(config, announce=_say))
    except server.ListenError as error:
        print(f"progan: {error}", file=sys.stderr)
        return exit_codes.FAILED
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
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))

    from progan_service.data.dataset import Dataset
    from progan_service.training.run_directory import claim_run_directory

    dataset = Dataset.open(arguments.data)
    config = _run_config(arguments, dataset)
    claim_run_directory(arguments.run_directory, config)
    import_tensorflow()
    from progan_service.training import trainer

    with _progress_bars(transient=True) as progress:
        finished = trainer.train(
            arguments.run_directory,
            config,
            dataset,
            report=_say,
            progress=lambda done, total: progress("training", done, total),
            stopping=lambda: bool(stopped),
        )
    if not finished:
        _say("stopped by a signal; everything is saved, the same command goes on")
        return exit_codes.PREEMPTED
    _say(f"done: progan export {arguments.run_directory} --store DIR --name NAME makes it servable")
    return exit_codes.DONE


def _run_config(arguments: argparse.Namespace, dataset: "Dataset") -> "RunConfig":
    from progan_service.config import DatasetConfig, NetworkConfig, RunConfig, training_values
    from progan_service.training.presets import load_preset

    preset = load_preset(arguments.preset)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    network = preset["network"] | {n: given[n] for n in ("fmap_base", "fmap_max") if n in given}
    settings = TrainingConfig.__dataclass_fields__.keys()
    training = training_values(preset["training"]) | {n: given[n] for n in settings if n in given}
    resolution = given.get("resolution", dataset.resolution)
    if resolution > dataset.resolution:
        raise ConfigError(f"resolution is {resolution}: the dataset has images of {dataset.resolution} at most")
    licence = (dataset.manifest and dataset.manifest.license_text) or ""
    return RunConfig(
        DatasetConfig(dataset.name, dataset.count, licence),
        NetworkConfig(resolution=resolution, channels=dataset.channels, **network),
        TrainingConfig(**training),
    )


def export(arguments: argparse.Namespace) -> int:
    from progan_service.model_store import ModelStore, check_model_name

    check_model_name(arguments.name)

    import_tensorflow()
    from progan_service.export import export_generator
    from progan_service.sources.checkpoint import load_run

    trained = load_run(arguments.source)
    if not arguments.store.exists():
        arguments.store.mkdir(parents=True)
    store = ModelStore(arguments.store)
    version = export_generator(
        trained.generator,
        store,
        arguments.name,
        resolution=trained.resolution,
        alpha=trained.alpha,
        provenance=trained.provenance,
    )
    size = f"{trained.resolution}x{trained.resolution}"
    print(f"{store.path(arguments.name, version)}: {arguments.name} version {version}, {size}")
    return exit_codes.DONE


def list_models(arguments: argparse.Namespace) -> int:
    from progan_service.model_store import ModelStore, ModelStoreError

    store = ModelStore(arguments.store)
    rows = [("MODEL", "VERSION", "SIZE", "LATENT", "KIMG", "EXPORTED", "DIGEST")]
    for name in store.models():
        for version in store.versions(name):
            try:
                metadata = store.metadata(name, version)
            except ModelStoreError as error:
                rows.append((name, str(version), "", "", "", "", f"cannot be served: {error}"))
                continue
            made = metadata.provenance
            kimg = f"{made['images_shown'] / 1000:.1f}" if "images_shown" in made else ""
            size = f"{metadata.resolution}x{metadata.resolution}x{metadata.channels}"
            exported = str(made.get("exported_at", ""))[:10]
            rows.append((name, str(version), size, str(metadata.latent_size), kimg, exported, metadata.digest[:19]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return exit_codes.DONE


def _say(line: str) -> None:
    """Print a line of long work, which goes on when nobody reads it any more."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _progress_bars(transient: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) that draws one bar a stage, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=transient, disable=not console.is_terminal) as bars:
        stages: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done)

        yield progress
