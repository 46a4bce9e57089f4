"""The `progan` command: its arguments, and how it ends. The only reader of arguments and environment."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from progan_service import commands, exit_codes, train_options
from progan_service.config import BatchingConfig, ServerConfig
from progan_service.errors import BadInputError

BUNDLED_STORE = Path(__file__).parent / "bundled"
EXIT_CODES = {
    exit_codes.DONE: "done",
    exit_codes.FAILED: "failed",
    exit_codes.USAGE: "usage",
    exit_codes.PREEMPTED: "stopped by a signal or the loss of a worker, run again to go on",
    exit_codes.BAD_CONFIG: "bad configuration or data, running again will not help",
}


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
        epilog="exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()),
    )
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(subparsers)
    _add_dataset(subparsers)
    _add_train(subparsers)
    _add_presets(subparsers)
    _add_evaluate(subparsers)
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
    command = _add(subparsers, "train", commands.train, "train a model, or go on with a run", train_options.DESCRIPTION)
    codes = "\n".join(f"  {code:<3} {meaning}" for code, meaning in EXIT_CODES.items())
    train_options.add_to(command, epilog=f"exit codes:\n{codes}\n\n{train_options.EXAMPLES}")
    command.set_defaults(tf_config=os.environ.get("TF_CONFIG"))


def _add_presets(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "presets",
        commands.presets,
        "list the presets of train, or show one",
        "List the presets of `progan train`; or print one with all its settings, those it leaves to the defaults too: "
        "JSON to change and to hand to `progan train --preset FILE.json`.",
    )
    command.add_argument("preset", nargs="?", metavar="PRESET", help="the preset to print: a name, or a FILE.json")


def _add_evaluate(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "evaluate",
        commands.evaluate,
        "measure how good a generator is",
        "Print SWD (sliced Wasserstein distance, x 10^3, by pyramid level; lower is better) and MS-SSIM (near that of "
        "the reals is good) of generated images. The row Reals2 is a second look at the real images: no generator can "
        "do better. Figures of different --images do not compare. Temporary files, in TMPDIR, take up to 150 KB an "
        "image and level: 7.4 GB for 16384 images at 64x64.",
    )
    command.add_argument(
        "source", type=Path, metavar="SOURCE", help="run directory of `progan train`, or STORE/MODEL/VERSION"
    )
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="dataset it was trained on")
    command.add_argument(
        "--images", type=int, default=16384, metavar="N", help="of each kind; the paper takes 16384 (%(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of images and patches (%(default)s)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")


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
