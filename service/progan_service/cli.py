"""The `progan` command; the only reader of arguments and environment.

Commands import what they need when they run: `progan --help` takes no TensorFlow.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes
from progan_service.config import BatchingConfig, ConfigError, ServerConfig, TrainingConfig
from progan_service.errors import BadInputError
from progan_service.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from progan_service.config import RunConfig
    from progan_service.data.dataset import Dataset

BUNDLED_STORE = Path(__file__).parent / "bundled"


def main() -> None:
    arguments = parser().parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes say nothing to a user
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC's core has to say arrives as an exception
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # a client that left mid-stream is no error
    try:
        sys.exit(arguments.run(arguments))
    except KeyboardInterrupt:
        sys.exit(130)
    except BadInputError as error:
        print(f"progan: {error}", file=sys.stderr)
        sys.exit(exit_codes.BAD_CONFIG)
    except OSError as error:  # a full disk, a directory that may not be written: the message names the file
        print(f"progan: {error}", file=sys.stderr)
        sys.exit(exit_codes.FAILED)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="progan",
        description="Train, export and serve Progressive GANs.",
        epilog="exit codes: 0 done; 1 failed; 2 usage; 75 stopped by a signal with all work saved, run again to go on; "
        "78 bad configuration or data, running again will not help",
    )
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_dataset(commands)
    _add_train(commands)
    _add_export(commands)
    _add_models(commands)
    return root


Commands = Any  # argparse has no public name for what add_subparsers returns


def _add(commands: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str, description: str) -> Any:
    command = commands.add_parser(name, help=help, description=description)
    command.set_defaults(run=run)
    return command


def _add_serve(commands: Commands) -> None:
    defaults, batching = ServerConfig(BUNDLED_STORE), BatchingConfig()
    command = _add(
        commands,
        "serve",
        _serve,
        "serve the models of a store over gRPC",
        "Serve the newest version of every model of a store. Ends on SIGTERM or Ctrl-C: first it says not ready and "
        "serves on (lame duck), then it refuses new work and finishes what is in flight (drain); a second signal ends "
        "it at once.",
    )
    command.add_argument(
        "--store", type=Path, default=BUNDLED_STORE, metavar="DIR", help="model store to serve (the bundled model)"
    )
    command.add_argument(
        "--model", default="", metavar="NAME", help="the model of requests that name none (the only one)"
    )
    command.add_argument("--host", default=defaults.host, help="address to listen on (%(default)s)")
    command.add_argument(
        "--port", type=int, default=defaults.port, metavar="PORT", help="gRPC port (%(default)s); 0 takes a free one"
    )
    command.add_argument(
        "--http-port",
        type=int,
        default=defaults.http_port,
        metavar="PORT",
        help="port of /metrics, /livez and /readyz (%(default)s)",
    )
    command.add_argument(
        "--max-batch-size",
        type=int,
        default=batching.max_batch_size,
        metavar="N",
        help="images the device computes at once (%(default)s)",
    )
    command.add_argument(
        "--max-queued-rows",
        type=int,
        default=batching.max_queued_rows,
        metavar="N",
        help="images that may wait; a request that does not fit is refused (%(default)s)",
    )
    command.add_argument(
        "--max-images",
        type=int,
        default=defaults.max_images,
        metavar="N",
        help="images one unary call may ask for (%(default)s)",
    )
    command.add_argument(
        "--lame-duck-s",
        type=float,
        default=defaults.lame_duck_s,
        metavar="S",
        help="seconds of serving on after SIGTERM (%(default)g)",
    )
    command.add_argument(
        "--drain-s",
        type=float,
        default=defaults.drain_s,
        metavar="S",
        help="seconds that work in flight may take after that (%(default)g)",
    )


def _serve(arguments: argparse.Namespace) -> int:
    from progan_service.serving.server import ListenError, serve

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
        asyncio.run(serve(config, announce=_say))
    except ListenError as error:
        print(f"progan: {error}", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.DONE


def _add_dataset(commands: Commands) -> None:
    dataset = commands.add_parser("dataset", help="make training data", description="Make training data.")
    kinds = dataset.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = _add(
        kinds,
        "build",
        _dataset_build,
        "from a folder, zip or tar of images",
        "Make a dataset of multi-resolution TFRecords from images of any size. Everything is checked first; a broken "
        "or too small image is named, and nothing half-written is left.",
    )
    build.add_argument("source", type=Path, metavar="SOURCE", help="folder, zip or tar of images")
    build.add_argument("out", type=Path, metavar="OUT", help="new directory of the dataset; its name is the dataset's")
    build.add_argument("--resolution", type=int, required=True, metavar="R", help="side of the images, a power of two")
    build.add_argument(
        "--fit",
        choices=("crop", "pad"),
        default="crop",
        help="make images square by a centre crop or by white borders (%(default)s)",
    )
    demo = _add(
        kinds,
        "demo",
        _dataset_demo,
        "of drawn faces, without any download",
        "Draw a labelled dataset of simple faces; attributes.csv beside it tells the attributes of each.",
    )
    demo.add_argument("out", type=Path, metavar="OUT", help="new directory of the dataset; its name is the dataset's")
    demo.add_argument(
        "--resolution", type=int, default=32, metavar="R", help="side of the images, a power of two (%(default)s)"
    )
    demo.add_argument("--count", type=int, default=10000, metavar="N", help="number of faces (%(default)s)")
    demo.add_argument("--seed", type=int, default=0, metavar="S", help="another seed gives other faces (%(default)s)")
    demo.add_argument(
        "--label", default="glasses", metavar="NAME", help="attribute that becomes the label (%(default)s)"
    )


def _dataset_build(arguments: argparse.Namespace) -> int:
    from progan_service.data.build import build_dataset

    import_tensorflow()
    with _progress_bars() as progress:
        summary = build_dataset(arguments.source, arguments.out, arguments.resolution, arguments.fit, progress)
    size = f"{summary.resolution}x{summary.resolution}"
    print(
        f"{summary.directory}: {summary.image_count} images, 4x4 to {size}; {summary.ignored_count} other files ignored"
    )
    return exit_codes.DONE


def _dataset_demo(arguments: argparse.Namespace) -> int:
    from progan_service.data.demo import build_demo

    import_tensorflow()
    with _progress_bars() as progress:
        build_demo(arguments.out, arguments.resolution, arguments.count, arguments.seed, progress, arguments.label)
    print(f"{arguments.out}: {arguments.count} faces, 4x4 to {arguments.resolution}x{arguments.resolution}")
    return exit_codes.DONE


def _add_train(commands: Commands) -> None:
    from progan_service.training.presets import preset_names

    command = _add(
        commands,
        "train",
        _train,
        "train a model, or go on with a run",
        "Train a Progressive GAN. Running the same command again goes on from the newest checkpoint. Amounts are in "
        "kimg, thousands of real images shown. Values given here override the preset's.",
    )
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="dataset of `progan dataset`")
    command.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        dest="run_directory",
        help="run directory, new or to go on with",
    )
    command.add_argument(
        "--preset",
        choices=preset_names(),
        default="cpu-small",
        help="where all other values come from (%(default)s)",
    )
    network = command.add_argument_group("network")
    network.add_argument("--resolution", type=int, metavar="R", help="final resolution (the dataset's)")
    network.add_argument(
        "--fmap-base", type=int, metavar="N", help="feature maps: min(2 fmap_base / resolution, fmap_max)"
    )
    network.add_argument("--fmap-max", type=int, metavar="N", help="most feature maps; also the latent size")
    schedule = command.add_argument_group("schedule")
    schedule.add_argument("--total-kimg", type=float, metavar="K", help="length of the run; may change when going on")
    schedule.add_argument("--stable-kimg", type=float, metavar="K", help="at each resolution before the next fades in")
    schedule.add_argument("--fade-kimg", type=float, metavar="K", help="over which a resolution fades in")
    schedule.add_argument("--tick-kimg", type=float, metavar="K", help="between status lines, grids and checkpoints")
    schedule.add_argument(
        "--batch-size",
        type=_by_resolution(int),
        dest="batch_sizes",
        metavar="N",
        help="images a step: 16, or by resolution 4:32,16:16",
    )
    schedule.add_argument(
        "--learning-rate",
        type=_by_resolution(float),
        dest="learning_rates",
        metavar="X",
        help="of Adam: 0.001, or by resolution",
    )
    other = command.add_argument_group("other")
    other.add_argument("--seed", type=int, metavar="S", help="of weights, image order and latents")
    other.add_argument("--mirror", action=argparse.BooleanOptionalAction, help="show images mirrored half of the time")


def _train(arguments: argparse.Namespace) -> int:
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))

    from progan_service.data.dataset import Dataset
    from progan_service.training.run_directory import claim_run_directory

    dataset = Dataset.open(arguments.data)
    config = _run_config(arguments, dataset)
    claim_run_directory(arguments.run_directory, config)
    import_tensorflow()
    from progan_service.training.trainer import train

    with _progress_bars(transient=True) as progress:
        finished = train(
            arguments.run_directory,
            config,
            dataset,
            report=_say,
            progress=lambda done, total: progress("training", done, total),
            stopping=lambda: bool(stopped),
        )
    if not finished:
        print("stopped by a signal; everything is saved, the same command goes on")
        return exit_codes.PREEMPTED
    print(f"done: progan export {arguments.run_directory} --store DIR --name NAME makes it servable")
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


def _by_resolution(number: type[int] | type[float]) -> Callable[[str], dict[int, Any]]:
    """Parses "16" and "4:32,16:16" into values by resolution."""

    def parse(text: str) -> dict[int, Any]:
        if ":" not in text:
            return {4: number(text)}
        return {int(resolution): number(value) for resolution, value in (pair.split(":") for pair in text.split(","))}

    parse.__name__ = "value, or RESOLUTION:VALUE,... list"  # argparse puts it into its error message
    return parse


def _add_export(commands: Commands) -> None:
    command = _add(
        commands,
        "export",
        _export,
        "make a run's generator servable",
        "Publish the averaged generator of a run's newest checkpoint as the next version of a model.",
    )
    command.add_argument("source", type=Path, metavar="RUN", help="run directory of `progan train`")
    command.add_argument("--store", type=Path, required=True, metavar="DIR", help="model store; made if it is missing")
    command.add_argument("--name", required=True, help="name of the model")


def _export(arguments: argparse.Namespace) -> int:
    from progan_service.model_store import ModelStore, check_model_name

    check_model_name(arguments.name)

    import_tensorflow()
    from progan_service.export import export_generator
    from progan_service.sources.checkpoint import load_run

    trained = load_run(arguments.source)
    arguments.store.mkdir(parents=True, exist_ok=True)
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


def _add_models(commands: Commands) -> None:
    command = _add(
        commands, "models", _models, "list the models of a store", "List the models of a store, newest version first."
    )
    command.add_argument(
        "--store", type=Path, default=BUNDLED_STORE, metavar="DIR", help="model store to list (the bundled model)"
    )


def _models(arguments: argparse.Namespace) -> int:
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
