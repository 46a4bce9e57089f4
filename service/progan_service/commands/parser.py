"""The `progan` command: its arguments, and how it ends. The only reader of arguments and environment."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from progan_service import exit_codes
from progan_service.commands import dataset, evaluate, export, models, serve, train
from progan_service.commands.terminal import ended
from progan_service.host.cpus import available_cpus
from progan_service.settings import serve as serve_options
from progan_service.settings import train as train_options
from progan_service.store.bundled import BUNDLED_STORE

_STORE_HELP = "model store (the bundled model)"


def main() -> None:
    arguments = parser().parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes say nothing to a user
    os.environ.setdefault("OTEL_SERVICE_NAME", "progan")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC's core has to say arrives as an exception
    # A server whose store is away looks again soon; TensorFlow's own patience with Google Cloud Storage is 25 minutes.
    os.environ.setdefault("GCS_REQUEST_CONNECTION_TIMEOUT_SECS", "5")
    os.environ.setdefault("GCS_RETRY_CONFIG_MAX_RETRIES", "2")
    for pool in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):  # TensorFlow knows nothing of quotas
        os.environ.setdefault(pool, str(available_cpus()))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # a client that left mid-stream is no error
    sys.exit(ended(lambda: arguments.run(arguments)))


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="progan",
        description="Train, export and serve Progressive GANs.",
        epilog="exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in exit_codes.MEANINGS.items()),
    )
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(subparsers)
    _add_dataset(subparsers)
    _add_train(subparsers)
    _add_presets(subparsers)
    _add_evaluate(subparsers)
    _add_export(subparsers)
    _add_weights(subparsers)
    _add_models(subparsers)
    return root


def _directory(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is a URL: only `progan serve` reads those; give a directory")
    return Path(text)


Subparsers = Any  # argparse has no public name for what add_subparsers returns


def _add(
    subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int], help: str, description: str
) -> Any:
    command = subparsers.add_parser(name, help=help, description=description)
    command.set_defaults(run=run)
    return command


def _add_serve(subparsers: Subparsers) -> None:
    command = _add(subparsers, "serve", serve.serve, "serve the models of a store over gRPC", "")
    serve_options.add_to(command)
    command.set_defaults(environment=os.environ)


def _add_dataset(subparsers: Subparsers) -> None:
    kinds_of = subparsers.add_parser("dataset", help="make training data", description="Make training data.")
    kinds = kinds_of.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = _add(
        kinds,
        "build",
        dataset.build_dataset,
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
        dataset.draw_dataset,
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
    command = _add(subparsers, "train", train.train, "train a model, or go on with a run", train_options.DESCRIPTION)
    codes = "\n".join(f"  {code:<3} {meaning}" for code, meaning in exit_codes.MEANINGS.items())
    train_options.add_to(command, epilog=f"exit codes:\n{codes}\n\n{train_options.EXAMPLES}")
    command.set_defaults(tf_config=os.environ.get("TF_CONFIG"))


def _add_presets(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "presets",
        train.presets,
        "list the presets of train, or show one",
        "List the presets of `progan train`; or print one with all its settings, those it leaves to the defaults too: "
        "JSON to change and to hand to `progan train --preset FILE.json`.",
    )
    command.add_argument("preset", nargs="?", metavar="PRESET", help="the preset to print: a name, or a FILE.json")


def _add_evaluate(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "evaluate",
        evaluate.evaluate,
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
        export.export,
        "make a generator servable: a run's, TF Hub's, NVIDIA's, a weights file's",
        "Publish a generator as the next version of a model. Of a run it is the averaged generator of the newest "
        "checkpoint; RUN/snapshots has those of earlier ticks.",
    )
    _add_source(command)
    command.add_argument(
        "--store", type=_directory, required=True, metavar="DIR", help="model store; made if it is missing"
    )
    command.add_argument("--name", required=True, help="name of the model")


def _add_weights(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "weights",
        export.weights,
        "write a generator's weights to a file",
        "Write the weights of a generator, and all that is known of it, to a file that any program can read and that "
        "cannot carry code: float32 arrays by layer path, and one JSON text.",
    )
    _add_source(command)
    command.add_argument("out", type=Path, metavar="OUT", help="new file; its name ends with .safetensors or .npz")


def _add_source(command: Any) -> None:
    command.add_argument(
        "source",
        metavar="SOURCE",
        help="run directory of `progan train`; weights (.safetensors, .npz); NVIDIA's pickle (.pkl), read without "
        "running any of it; or a TF Hub module: https://tfhub.dev/... or Kaggle's address, a .tar.gz, a directory",
    )
    command.add_argument(
        "--sha256",
        default="",
        metavar="HEX",
        help="refuse other content: of a file its SHA-256, of a TF Hub module the one that export prints",
    )


def _add_models(subparsers: Subparsers) -> None:
    command = _add(
        subparsers,
        "models",
        models.list_models,
        "list the models of a store, choose what serves, remove old versions",
        "List the models of a store, newest version first, with what each version is used for and where it comes from; "
        "or change that. Servers that watch the store act on it within seconds.",
    )
    command.add_argument("--store", type=_directory, default=BUNDLED_STORE, metavar="DIR", help=_STORE_HELP)
    kinds = command.add_subparsers(title="commands", metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], help: str, description: str, *, changes: bool = True
    ) -> Any:
        kind = _add(kinds, name, run, help, description)
        if changes:
            kind.add_argument("--store", type=_directory, required=True, metavar="DIR", help="model store")
        else:
            kind.add_argument("--store", type=_directory, default=argparse.SUPPRESS, metavar="DIR", help=_STORE_HELP)
        return kind

    verify = add(
        "verify",
        models.verify,
        "try every version as a server would",
        "Check files by their digests and golden pictures by making them again; exit code 1 when a version is broken.",
        changes=False,
    )
    verify.add_argument("model", nargs="?", default="", metavar="MODEL", help="only this model")
    pin = add(
        "pin",
        models.pin,
        "let one version serve, to roll back for example",
        "Let one version of a model serve, whatever is newer; or, with `latest`, the newest good one again.",
    )
    pin.add_argument("model", metavar="MODEL")
    pin.add_argument("version", metavar="VERSION", help="its number, or `latest`")
    label = add(
        "label",
        models.label,
        "give a version a label that requests can ask for",
        "Give a version a label, `canary` for example. It is loaded beside the version that serves, and answers "
        "requests that ask for the label.",
    )
    label.add_argument("model", metavar="MODEL")
    label.add_argument("label", metavar="LABEL")
    label.add_argument("version", metavar="VERSION", help="its number")
    unlabel = add("unlabel", models.unlabel, "take a label away", "Take a version label away.")
    unlabel.add_argument("model", metavar="MODEL")
    unlabel.add_argument("label", metavar="LABEL")
    prune = add(
        "prune",
        models.prune,
        "remove old versions",
        "Remove all versions but the newest undamaged ones, the pinned and the labelled; damaged ones that are newer "
        "stay, for they may still be on their way. Also what killed processes left half-written more than a day ago.",
    )
    prune.add_argument("model", nargs="?", default="", metavar="MODEL", help="only this model")
    prune.add_argument("--keep", type=int, default=3, metavar="N", help="newest versions that stay (%(default)s)")
    prune.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
