"""The command `progan-client`; the only reader of argv and environment in this package."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from progan_client import commands
from progan_client.animation import ANIMATION_FORMATS
from progan_client.channel import DEFAULT_TARGET, Tls
from progan_client.client import Client
from progan_client.commands import FAILED, INTERRUPTED, USAGE
from progan_client.errors import ArgumentError, ProganError
from progan_client.images import DEFAULT_QUALITY

EXAMPLES = """\
examples:
  progan-client generate --seed 1337 -o image.png               one image
  progan-client generate --seed 1337 --count 16 -o grid.png     sixteen images in one picture
  progan-client generate --count 100 -o images/                 a hundred files in a folder
  progan-client interpolate --seeds 1,2,3 --loop -o walk.webp   a moving picture
  progan-client models                                          what the service has
  progan-client --target images.example:8500 health             is it ready?

The same seed and model version give the same image. A bearer token is read from PROGAN_TOKEN.
exit codes: 0 done, 1 failed, 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    args = _parser().parse_args(argv)
    try:
        with _client(args) as client:
            return int(args.run(client, args))
    except ArgumentError as error:
        return _complain(str(error), USAGE)
    except ProganError as error:
        return _complain(str(error), FAILED)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _client(args: argparse.Namespace) -> Client:
    wants_tls = args.tls or args.tls_root or args.tls_cert or args.tls_key
    timeouts = {} if args.timeout is None else {"timeout_s": args.timeout, "stream_timeout_s": args.timeout}
    return Client(
        args.target,
        **timeouts,
        tls=Tls(args.tls_root, args.tls_cert, args.tls_key) if wants_tls else None,
        token=os.environ.get("PROGAN_TOKEN", ""),
    )


def _complain(sentence: str, code: int) -> int:
    print(f"progan-client: {sentence}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    target = os.environ.get("PROGAN_TARGET") or DEFAULT_TARGET
    defaults = {"target": target, "timeout": None, "tls": False, "tls_root": None, "tls_cert": None, "tls_key": None}
    parser = argparse.ArgumentParser(
        prog="progan-client",
        description="Ask a ProGAN service for images.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_connection_options()],
    )
    parser.set_defaults(**defaults)
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(subparsers)
    _add_interpolate(subparsers)
    _add_command(subparsers, "models", commands.models, "list the models of the service and their versions")
    command = _add_command(
        subparsers, "health", commands.health, "tell whether the service is ready (exit code 0) or not (1)"
    )
    command.add_argument("--model", metavar="NAME", default="", help="ask about this model only")
    command.add_argument("--wait", metavar="S", type=float, help="wait up to S seconds until the service is ready")
    return parser


def _connection_options() -> argparse.ArgumentParser:
    """The options that stand before or after the command: left out in one place, they do not undo the other."""
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("connection")
    group.add_argument(
        "--target", metavar="HOST:PORT", help=f"address of the service (PROGAN_TARGET, else {DEFAULT_TARGET})"
    )
    group.add_argument("--timeout", metavar="S", type=float, help="deadline in seconds (30; 3600 for images)")
    group.add_argument("--tls", action="store_true", help="use TLS, trusting the usual authorities")
    group.add_argument("--tls-root", metavar="FILE", help="use TLS, trusting the authorities in this PEM file")
    group.add_argument("--tls-cert", metavar="FILE", help="this client's certificate, where the service wants one")
    group.add_argument("--tls-key", metavar="FILE", help="the certificate's private key")
    return options


def _add_command(subparsers: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", parents=[_connection_options()]
    )
    command.set_defaults(run=run)
    return command


def _add_generate(subparsers: Any) -> None:
    command = _add_command(subparsers, "generate", commands.generate, "make images of seeds or latents")
    source = command.add_argument_group("what to make (one image of a random seed when nothing is given)")
    one = source.add_mutually_exclusive_group()
    one.add_argument("--seed", metavar="N", type=int, help="the first seed, 0 to 2^64 - 1")
    one.add_argument("--seeds", metavar="N,N,...", type=_integers, help="one seed for each image")
    one.add_argument("--latents", metavar="FILE.npy", type=Path, help="float array [N, L], one row for each image")
    source.add_argument("--count", metavar="N", type=int, help="number of images, of seeds that follow one another")
    _add_model_options(source)
    output = command.add_argument_group("where it goes")
    output.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        required=True,
        help="image.png (or .jpg, .webp): all in one picture; FOLDER/: each in a file of its own",
    )
    output.add_argument("--each", action="store_true", help="image.png becomes image-0000.png, image-0001.png, ...")
    output.add_argument(
        "--columns", metavar="N", type=_number(int, 1), help="columns of the picture (a square, if it comes out)"
    )
    _add_output_options(output)


def _add_interpolate(subparsers: Any) -> None:
    command = _add_command(subparsers, "interpolate", commands.interpolate, "make a walk from image to image")
    source = command.add_argument_group("what to make")
    one = source.add_mutually_exclusive_group(required=True)
    one.add_argument("--seeds", metavar="N,N,...", type=_integers, help="two or more seeds to pass by")
    one.add_argument("--latents", metavar="FILE.npy", type=Path, help="float array [K, L] of latents to pass by")
    source.add_argument("--frames", metavar="N", type=int, default=30, help="new frames between two of them (30)")
    source.add_argument("--linear", action="store_true", help="walk on straight lines, not on great circles")
    source.add_argument("--loop", action="store_true", help="walk on from the last to the first")
    _add_model_options(source)
    output = command.add_argument_group("where it goes")
    output.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        required=True,
        help=f"walk{' or walk'.join(ANIMATION_FORMATS)}: a moving picture; FOLDER/: each frame in a file of its own",
    )
    output.add_argument(
        "--fps", metavar="N", type=_number(float, 0.1, 100), default=24.0, help="frames per second (24)"
    )
    _add_output_options(output)
    command.set_defaults(each=False)


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    labels = group.add_mutually_exclusive_group()
    labels.add_argument("--label", metavar="NAME", help="one of the model's labels, for models with labels")
    labels.add_argument("--labels", metavar="X,X,...", type=_floats, help="label vector, to mix labels")
    group.add_argument("--model", metavar="NAME", default="", help="model (the service's default one)")
    group.add_argument(
        "--version", metavar="N|LABEL", type=_version, help="model version, by number or label (the one that serves)"
    )


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--format", choices=("png", "jpeg", "webp"), help="format of the files in FOLDER/ (png)")
    group.add_argument(
        "--quality", metavar="N", type=_number(int, 1, 100), help=f"1 to 100, for JPEG and WebP ({DEFAULT_QUALITY})"
    )
    group.add_argument(
        "--scale",
        metavar="N",
        type=_number(int, 1, 64),
        default=1,
        help="draw each pixel as N x N, for small images (1)",
    )


def _number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """A reader of one number from `low` to `high`; what is drawn here is checked before the call is made."""

    def read(text: str) -> float:
        try:
            if low <= (number := kind(text)) <= high:
                return number
        except ValueError:
            pass
        limit = "" if high == math.inf else f" and at most {high}"
        what = "an integer" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"must be {what}, at least {low}{limit}; got {text!r}")

    return read


def _version(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be integers with commas between, such as 1,2,3; got {text!r}") from None


def _floats(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between, such as 0,1; got {text!r}") from None
