"""The command line of `progan-client`: its commands, options and help."""

import argparse
import os
from pathlib import Path
from typing import Any

import shtab

from progan_client import __version__
from progan_client.animation import ANIMATION_FORMATS
from progan_client.channel import DEFAULT_TARGET
from progan_client.command import commands
from progan_client.command.groups import (
    add_edit_options,
    add_file,
    add_hold,
    add_model_options,
    add_output_options,
    add_picture_options,
    add_search_options,
)
from progan_client.command.usage import Parser
from progan_client.command.values import integers, number, sweep
from progan_client.load.plan import Load

EXAMPLES = """\
examples:
  progan-client generate --seed 1337 -o image.png               make one image
  progan-client generate --seed 1337 --count 16 -o grid.png     make 16 images in one picture
  progan-client generate --count 100 -o images/                 make 100 files in a directory
  progan-client generate --seed 5 --edit size=+1.5 -o big.png   make an image and move it along a direction
  progan-client sheet --edit size=-3:3:7 -o size.png            draw what a direction does
  progan-client edit photo.jpg --edit size=+1.5 -o big.png      find the image of a photograph and edit it
  progan-client walk --seeds 1,2,3 --loop -o walk.webp          make an animation
  progan-client models                                          list models and versions
  progan-client --target images.example:8500 health             check another service
  progan-client load --clients 32 -o load.png                   measure throughput and latency

The same seed and model version always give the same image. PROGAN_TARGET sets the address, PROGAN_TOKEN the
bearer token.
exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted, 141 nobody reads the output any more
"""
LOAD_EXAMPLES = """\
examples:
  progan-client load                                       8 clients for 10 seconds
  progan-client load --clients 64 --images 4 --format png  64 clients, four PNG images per call
  progan-client load --rate 100 --duration 60 -o load.png  100 calls per second for a minute, with a picture

Latencies are those of successful calls. A call fails after 30 seconds, or --timeout. Ctrl-C ends the load
early and prints the report.
exit codes: 0 at least one call succeeded, 1 no call succeeded, 2 wrong usage
"""
COMPLETION_EXAMPLES = """\
examples:
  progan-client completion bash > ~/.local/share/bash-completion/completions/progan-client
  progan-client completion zsh > ~/.zsh/completions/_progan-client  (a directory of $fpath)
  progan-client completion fish > ~/.config/fish/completions/progan-client.fish
"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser. The parsed arguments contain `run`, the function of the command."""
    parser = Parser(
        prog="progan-client",
        description="Request images from a ProGAN service.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_connection_options()],
    )
    target = os.environ.get("PROGAN_TARGET") or DEFAULT_TARGET
    files = dict.fromkeys(("tls_root", "tls_cert", "tls_key", "token_file"))
    parser.set_defaults(target=target, timeout=None, use_tls=False, allow_plain_token=False, **files)
    parser.add_argument("--version", action="version", version=f"progan-client {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(subparsers)
    _add_walk(subparsers)
    _add_sheet(subparsers)
    _add_edit(subparsers)
    _add_invert(subparsers)
    _add_command(subparsers, "models", commands.models, "list the models of the service and their versions")
    _add_health(subparsers)
    _add_load(subparsers)
    _add_completion(subparsers, parser)
    return parser


def _connection_options() -> argparse.ArgumentParser:
    """Return the options that are valid before and after the command. Without defaults, neither place resets them."""
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("connection")
    group.add_argument(
        "--target", metavar="HOST:PORT", help=f"address of the service (default: PROGAN_TARGET or {DEFAULT_TARGET})"
    )
    group.add_argument("--timeout", metavar="S", type=float, help="deadline in seconds (default: 30; for images 3600)")
    group.add_argument("--tls", dest="use_tls", action="store_true", help="use TLS with the default authorities")
    add_file(group, "--tls-root", metavar="FILE", help="use TLS with the certificate authorities of this PEM file")
    add_file(group, "--tls-cert", metavar="FILE", help="certificate of the client, for mutual TLS")
    add_file(group, "--tls-key", metavar="FILE", help="private key of --tls-cert")
    add_file(
        group, "--token-file", metavar="FILE", help="file with the bearer token (default: the token in PROGAN_TOKEN)"
    )
    group.add_argument(
        "--allow-plain-token",
        action="store_true",
        help="send the token without TLS to another machine, too; others can read it on the way",
    )
    return options


def _add_command(subparsers: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", parents=[_connection_options()]
    )
    command.set_defaults(run=run)
    return command


def _add_generate(subparsers: Any) -> None:
    command = _add_command(subparsers, "generate", commands.generate, "make images from seeds or latents")
    source = command.add_argument_group("images (default: one image of a random seed)")
    one = source.add_mutually_exclusive_group()
    one.add_argument("--seed", metavar="N", type=int, help="first seed, 0 to 2^64 - 1")
    one.add_argument("--seeds", metavar="N,N,...", type=integers, help="one seed per image")
    add_file(one, "--latents", metavar="FILE.npy", type=Path, help="float array [N, L], one row per image")
    source.add_argument("--count", metavar="N", type=int, help="number of images, with consecutive seeds")
    add_edit_options(source)
    add_model_options(source)
    output = command.add_argument_group("output")
    add_file(
        output,
        "-o",
        "--output",
        metavar="PATH",
        required=True,
        help="image.png (or .jpg, .webp) for one picture of all images, DIR/ for one file per image",
    )
    output.add_argument("--each", action="store_true", help="write image-0000.png, image-0001.png, ... for image.png")
    output.add_argument(
        "--columns", metavar="N", type=number(int, 1), help="columns of the picture (default: about square)"
    )
    add_output_options(output)


def _add_walk(subparsers: Any) -> None:
    command = _add_command(subparsers, "walk", commands.walk, "make a walk through latent space")
    source = command.add_argument_group("frames")
    one = source.add_mutually_exclusive_group(required=True)
    one.add_argument("--seeds", metavar="N,N,...", type=integers, help="seeds of two or more key frames")
    add_file(one, "--latents", metavar="FILE.npy", type=Path, help="float array [K, L], one row per key frame")
    source.add_argument(
        "--frames", metavar="N", type=int, default=30, help="new frames between two key frames (default: 30)"
    )
    paths = source.add_mutually_exclusive_group()
    paths.add_argument("--linear", action="store_true", help="follow straight lines instead of great circles")
    paths.add_argument("--smooth", action="store_true", help="follow a curve without a turn at key frames")
    source.add_argument(
        "--even", action="store_true", help="let neighbouring frames differ by the same amount; begins later"
    )
    source.add_argument("--loop", action="store_true", help="return from the last key frame to the first")
    add_edit_options(source)
    add_model_options(source)
    output = command.add_argument_group("output")
    add_file(
        output,
        "-o",
        "--output",
        metavar="PATH",
        required=True,
        help=f"walk{', walk'.join(ANIMATION_FORMATS)} for an animation, DIR/ for one file per frame",
    )
    output.add_argument(
        "--fps", metavar="N", type=number(float, 0.1, 100), default=24.0, help="frames per second (default: 24)"
    )
    add_output_options(output)
    command.set_defaults(each=False)


def _add_sheet(subparsers: Any) -> None:
    command = _add_command(subparsers, "sheet", commands.sheet, "draw what a direction does: seeds moved along it")
    source = command.add_argument_group("images")
    one = source.add_mutually_exclusive_group()
    one.add_argument("--seeds", metavar="N,N,...", type=integers, help="a row for each (default: 0,1,2,3)")
    add_file(one, "--latents", metavar="FILE.npy", type=Path, help="float array [N, L], a row for each")
    source.add_argument(
        "--edit",
        metavar="NAME=FROM:TO:N",
        type=sweep,
        required=True,
        help="direction, first and last amount, number of columns, such as size=-3:3:7",
    )
    add_hold(source)
    add_model_options(source)
    output = command.add_argument_group("output")
    add_file(output, "-o", "--output", metavar="PATH", required=True, help="sheet.png (or .jpg, .webp)")
    add_picture_options(output)
    command.set_defaults(each=False, format=None)


def _add_edit(subparsers: Any) -> None:
    command = _add_command(subparsers, "edit", commands.edit, "find the image of a photograph, and edit it")
    source = command.add_argument_group("image")
    add_file(source, "picture", metavar="PHOTO", type=Path, help="a PNG, JPEG or WebP file")
    add_edit_options(source)
    add_search_options(source)
    add_model_options(source)
    output = command.add_argument_group("output")
    add_file(output, "-o", "--output", metavar="PATH", required=True, help="edited.png (or .jpg, .webp)")
    output.add_argument(
        "--beside", action="store_true", help="draw the photograph, the image found and the edited one side by side"
    )
    add_picture_options(output)
    command.set_defaults(each=False, format=None)


def _add_invert(subparsers: Any) -> None:
    command = _add_command(
        subparsers, "invert", commands.invert, "find the latents whose images are nearest to pictures"
    )
    source = command.add_argument_group("images")
    add_file(source, "pictures", metavar="PHOTO", nargs="+", type=Path, help="PNG, JPEG or WebP files")
    add_search_options(source)
    add_model_options(source)
    output = command.add_argument_group("output")
    add_file(
        output,
        "-o",
        "--output",
        metavar="PATH",
        required=True,
        help="found.png (or .jpg, .webp) for one picture of all images that were found, DIR/ for one file per image",
    )
    add_file(
        output,
        "--latents",
        dest="save_latents",
        metavar="FILE.npy",
        type=Path,
        help="write the latents, too, for --latents of other commands",
    )
    output.add_argument("--each", action="store_true", help="write found-0000.png, found-0001.png, ... for found.png")
    output.add_argument(
        "--columns", metavar="N", type=number(int, 1), help="columns of the picture (default: about square)"
    )
    add_output_options(output)


def _add_health(subparsers: Any) -> None:
    command = _add_command(
        subparsers, "health", commands.health, "check whether the service is ready (exit code 0) or not (1)"
    )
    command.add_argument("--model", metavar="NAME", default="", help="check this model only")
    command.add_argument("--wait", metavar="S", type=float, help="wait up to S seconds until the service is ready")


def _add_load(subparsers: Any) -> None:
    command = _add_command(subparsers, "load", commands.load, "measure throughput and latency of the service")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = LOAD_EXAMPLES
    _add_pace_options(command.add_argument_group("load"))
    call = command.add_argument_group("calls")
    call.add_argument(
        "--images", metavar="N", type=int, default=Load.images, help=f"images per call (default: {Load.images})"
    )
    call.add_argument(
        "--format",
        choices=("raw", "png", "jpeg", "webp"),
        default=Load.encoding,
        help=f"format on the wire (default: {Load.encoding})",
    )
    add_edit_options(call)
    add_model_options(call)
    output = command.add_argument_group("output")
    add_file(output, "--json", metavar="FILE", type=Path, help="write all measurements as JSON")
    add_file(
        output, "-o", "--output", metavar="FILE.png", type=Path, help="draw the latencies (or FILE.jpg, FILE.webp)"
    )


def _add_pace_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--clients",
        metavar="N",
        type=int,
        help=f"clients; each sends its next call after a reply (default: {Load.clients}). With --rate: maximum number "
        f"of calls in flight (default: {commands.MAX_IN_FLIGHT})",
    )
    group.add_argument(
        "--rate",
        metavar="R",
        type=float,
        help="start R calls per second without waiting for replies; latency counts from the planned start",
    )
    group.add_argument("--even", action="store_true", help="with --rate: use equal intervals instead of random ones")
    group.add_argument(
        "--duration",
        metavar="S",
        type=float,
        help=f"seconds to measure (default: {Load.duration_s:g}; with --calls: no limit)",
    )
    group.add_argument("--calls", metavar="N", type=int, help="number of calls to measure (default: no limit)")
    group.add_argument(
        "--warmup",
        metavar="S",
        type=float,
        default=Load.warmup_s,
        help=f"seconds of the same load before the measurement (default: {Load.warmup_s:g})",
    )
    group.add_argument(
        "--connections",
        metavar="N",
        type=int,
        default=Load.connections,
        help=f"connections that the clients share (default: {Load.connections})",
    )
    group.add_argument(
        "--retries",
        action=argparse.BooleanOptionalAction,
        default=Load.retries,
        help="retry refused calls, as other commands do (default: no)",
    )


def _add_completion(subparsers: Any, parser: argparse.ArgumentParser) -> None:
    summary = "print a script that completes commands and options in a shell"
    command = subparsers.add_parser(
        "completion",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=COMPLETION_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shtab.add_argument_to(command, "shell", help="shell to write the script for (default: bash)", parent=parser)
