"""The `progan` command: its arguments, and how it ends. The only reader of arguments and environment."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from progan_service import commands, exit_codes
from progan_service.config import BatchingConfig, ServerConfig
from progan_service.errors import BadInputError
from progan_service.training.presets import load_preset, preset_names

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
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(subparsers)
    _add_dataset(subparsers)
    _add_train(subparsers)
    _add_export(subparsers)
    _add_models(subparsers)
    return root


Subparsers = Any  # argparse has no public name for what add_subparsers returns


def _add(
    subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int], help: str, description: str
) -> Any:
    command = subparsers.add_parser(name, help=help, description=description)
    command.set_defaults(run=run)
    return command


def _add_serve(subparsers: Subparsers) -> None:
    defaults, batching = ServerConfig(BUNDLED_STORE), BatchingConfig()
    command = _add(
        subparsers,
        "serve",
        commands.serve,
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


def _add_dataset(subparsers: Subparsers) -> None:
    dataset = subparsers.add_parser("dataset", help="make training data", description="Make training data.")
    kinds = dataset.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = _add(
        kinds,
        "build",
        commands.build_dataset,
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
        commands.draw_dataset,
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


def _add_train(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "train",
        commands.train,
        "train a model, or go on with a run",
        "Train a Progressive GAN. Running the same command again goes on from the newest checkpoint. Amounts are in "
        "kimg, thousands of real images shown. Values given here override the preset's; those of cpu-small stand in "
        "parentheses.",
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
    values = load_preset("cpu-small")
    shape, training = values["network"], values["training"]
    network = command.add_argument_group("network")
    network.add_argument("--resolution", type=int, metavar="R", help="final resolution (the dataset's)")
    network.add_argument(
        "--fmap-base",
        type=int,
        metavar="N",
        help=f"feature maps: min(2 fmap_base / resolution, fmap_max) ({shape['fmap_base']})",
    )
    network.add_argument(
        "--fmap-max", type=int, metavar="N", help=f"most feature maps; also the latent size ({shape['fmap_max']})"
    )
    schedule = command.add_argument_group("schedule")
    schedule.add_argument(
        "--total-kimg",
        type=float,
        metavar="K",
        help=f"length of the run; may change when going on ({training['total_kimg']})",
    )
    schedule.add_argument(
        "--stable-kimg",
        type=float,
        metavar="K",
        help=f"at each resolution before the next fades in ({training['stable_kimg']})",
    )
    schedule.add_argument(
        "--fade-kimg", type=float, metavar="K", help=f"over which a resolution fades in ({training['fade_kimg']})"
    )
    schedule.add_argument(
        "--tick-kimg",
        type=float,
        metavar="K",
        help=f"between status lines, grids and checkpoints ({training['tick_kimg']})",
    )
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
    other.add_argument("--seed", type=int, metavar="S", help="of weights, image order and latents (0)")
    other.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, help="show images mirrored half of the time (no)"
    )


def _by_resolution(number: type[int] | type[float]) -> Callable[[str], dict[int, Any]]:
    """Parses "16" and "4:32,16:16" into values by resolution."""

    def parse(text: str) -> dict[int, Any]:
        if ":" not in text:
            return {4: number(text)}
        return {int(resolution): number(value) for resolution, value in (pair.split(":") for pair in text.split(","))}

    parse.__name__ = "value, or RESOLUTION:VALUE,... list"  # argparse puts it into its error message
    return parse


def _add_export(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "export",
        commands.export,
        "make a run's generator servable",
        "Publish the averaged generator of a run's newest checkpoint as the next version of a model.",
    )
    command.add_argument("source", type=Path, metavar="RUN", help="run directory of `progan train`")
    command.add_argument("--store", type=Path, required=True, metavar="DIR", help="model store; made if it is missing")
    command.add_argument("--name", required=True, help="name of the model")


def _add_models(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "models",
        commands.list_models,
        "list the models of a store",
        "List the models of a store, newest version first.",
    )
    command.add_argument(
        "--store", type=Path, default=BUNDLED_STORE, metavar="DIR", help="model store to list (the bundled model)"
    )
