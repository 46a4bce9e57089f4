"""The `progan` command: its parser, and how it ends."""

import argparse
import logging
import os
import sys
from typing import Any

import shtab

from progan_service import __version__, exit_codes
from progan_service.commands.dataset import add_dataset
from progan_service.commands.directions import add_directions
from progan_service.commands.draw import add_grid, add_walk
from progan_service.commands.evaluate import add_evaluate
from progan_service.commands.export import add_export, add_weights
from progan_service.commands.models import add_models
from progan_service.commands.presets import add_presets
from progan_service.commands.runs import add_plot, add_runs, add_timelapse
from progan_service.commands.serve import add_serve
from progan_service.commands.terminal import ended, print_any_text
from progan_service.commands.train import add_train
from progan_service.commands.usage import Parser
from progan_service.host.cpus import available_cpus
from progan_service.host.signals import as_usual

COMPLETION_EXAMPLES = """\
examples:
  progan completion bash > ~/.local/share/bash-completion/completions/progan
  progan completion zsh > ~/.zsh/completions/_progan  (a directory of $fpath)
  progan completion fish > ~/.config/fish/completions/progan.fish
"""


def main() -> None:
    """Run one command and exit with its code."""
    print_any_text()
    sys.exit(ended(_run))


def _run() -> int:
    arguments = parser().parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes say nothing to a user
    os.environ.setdefault("OTEL_SERVICE_NAME", "progan")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC's core reports arrives as an exception
    # A server polls a store that does not answer; TensorFlow's own patience with Google Cloud Storage is 25 minutes.
    os.environ.setdefault("GCS_REQUEST_CONNECTION_TIMEOUT_SECS", "5")
    os.environ.setdefault("GCS_RETRY_CONFIG_MAX_RETRIES", "2")
    for pool in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):  # TensorFlow ignores CPU quotas
        os.environ.setdefault(pool, str(available_cpus()))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # a client that left mid-stream is no error
    as_usual()
    return int(arguments.run(arguments))


def parser() -> argparse.ArgumentParser:
    """Return the parser. The parsed arguments contain `run`, which calls the function of the command with them."""
    root = Parser(
        prog="progan",
        description="Train, export and serve Progressive GANs.",
        epilog="exit codes:\n" + "\n".join(f"  {code:<3} {text}" for code, text in exit_codes.MEANINGS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"progan {__version__}")
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_serve(subparsers)
    add_dataset(subparsers)
    add_train(subparsers)
    add_presets(subparsers)
    add_runs(subparsers)
    add_plot(subparsers)
    add_timelapse(subparsers)
    add_grid(subparsers)
    add_walk(subparsers)
    add_evaluate(subparsers)
    add_export(subparsers)
    add_weights(subparsers)
    add_models(subparsers)
    add_directions(subparsers)
    _add_completion(subparsers, root)
    return root


def _add_completion(subparsers: Any, root: argparse.ArgumentParser) -> None:
    summary = "print a script that completes commands and options in a shell"
    command = subparsers.add_parser(
        "completion",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=COMPLETION_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shtab.add_argument_to(command, "shell", help="shell to write the script for (default: bash)", parent=root)
