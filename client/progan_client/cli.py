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
from progan_client.channel import DEFAULT_TARGET, Settings, Tls
from progan_client.client import Client
from progan_client.commands import FAILED, INTERRUPTED, USAGE
from progan_client.errors import ArgumentError, ProganError, UnavailableError
from progan_client.images import DEFAULT_QUALITY
from progan_client.load_plan import Load

HEALTH_S = 2  # for a service that gives no images to tell whether it is there at all

EXAMPLES = """\
examples:
  progan-client generate --seed 1337 -o image.png               one image
  progan-client generate --seed 1337 --count 16 -o grid.png     sixteen images in one picture
  progan-client generate --count 100 -o images/                 a hundred files in a folder
  progan-client interpolate --seeds 1,2,3 --loop -o walk.webp   a moving picture
  progan-client models                                          what the service has
  progan-client --target images.example:8500 health             is it ready?
  progan-client load --clients 32 -o load.png                   how fast is it?

The same seed and model version give the same image. A bearer token is read from --token-file or
PROGAN_TOKEN.
exit codes: 0 done, 1 failed, 2 wrong usage
"""
LOAD_EXAMPLES = """\
examples:
  progan-client load                                       8 clients, 10 seconds
  progan-client load --clients 64 --images 4 --format png  busier, and what encoding costs
  progan-client load --rate 100 --duration 60 -o load.png  100 calls a second, as from many callers, and a picture

Latencies are those of calls that were answered; a call is given up after 30 s, or --timeout. Ctrl-C ends the load and
reports.
exit codes: 0 some calls were answered, 1 none was, 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    args = _parser().parse_args(argv)
    try:
        args.credentials = _credentials(args)
        with _client(args) as client:
            return _run(client, args)
    except ArgumentError as error:
        return _complain(str(error), USAGE)
    except ProganError as error:
        return _complain(str(error), FAILED)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _run(client: Client, args: argparse.Namespace) -> int:
    try:
        return int(args.run(client, args))
    except UnavailableError as error:
        if error.reason or not _is_up(client):
            raise
        told = "is up but not ready: it has no model yet, or is shutting down"
        return _complain(f"{args.target} {told}; `progan-client models` tells more", FAILED)


def _is_up(client: Client) -> bool:
    try:
        return client.health(timeout_s=HEALTH_S) == "NOT_SERVING"
    except ProganError:
        return False


def _client(args: argparse.Namespace) -> Client:
    timeouts = {} if args.timeout is None else {"timeout_s": args.timeout, "stream_timeout_s": args.timeout}
    return Client(args.target, **timeouts, **args.credentials)


def _credentials(args: argparse.Namespace) -> dict[str, Any]:
    wants_tls = args.tls or args.tls_root or args.tls_cert or args.tls_key
    return {
        "tls": Tls(args.tls_root, args.tls_cert, args.tls_key) if wants_tls else None,
        "token": _token(args),
    }


def _token(args: argparse.Namespace) -> str:
    """There is no option for the token itself: every user of a machine can read its command lines."""
    if args.token_file is None:
        return os.environ.get("PROGAN_TOKEN", "")
    token = Path(args.token_file).read_text(errors="replace").strip()
    if not token:
        raise ArgumentError("--token-file", "must hold a token", args.token_file)
    return token


def _load(client: Client, args: argparse.Namespace) -> int:
    """The one command that opens connections of its own."""
    settings = Settings(args.target, Load.timeout_s, Load.timeout_s, **args.credentials)
    return commands.load(client, settings, args)


def _complain(sentence: str, code: int) -> int:
    print(f"progan-client: {sentence}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    target = os.environ.get("PROGAN_TARGET") or DEFAULT_TARGET
    files = dict.fromkeys(("tls_root", "tls_cert", "tls_key", "token_file"))
    defaults = {"target": target, "timeout": None, "tls": False, **files}
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
    _add_load(subparsers)
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
    group.add_argument(
        "--token-file", metavar="FILE", help="the bearer token, where the service wants one (PROGAN_TOKEN)"
    )
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


def _add_load(subparsers: Any) -> None:
    command = _add_command(subparsers, "load", _load, "measure how much a service answers, and how fast")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = LOAD_EXAMPLES
    pace = command.add_argument_group("how much to ask")
    pace.add_argument(
        "--clients",
        metavar="N",
        type=int,
        help=f"each asks again as soon as it has its answer ({Load.clients}); with --rate: the most calls in flight "
        f"({commands.MOST_IN_FLIGHT})",
    )
    pace.add_argument(
        "--rate",
        metavar="R",
        type=float,
        help="R calls a second fall due, answered or not; latency counts from then",
    )
    pace.add_argument("--even", action="store_true", help="they fall due evenly, not at random (Poisson)")
    pace.add_argument("--duration", metavar="S", type=float, help=f"seconds ({Load.duration_s:g}; none with --calls)")
    pace.add_argument("--calls", metavar="N", type=int, help="end after N calls")
    pace.add_argument(
        "--warmup",
        metavar="S",
        type=float,
        default=Load.warmup_s,
        help=f"seconds of the same load before, not measured ({Load.warmup_s:g})",
    )
    pace.add_argument(
        "--connections", metavar="N", type=int, default=Load.connections, help=f"to share ({Load.connections})"
    )
    pace.add_argument(
        "--retries",
        action=argparse.BooleanOptionalAction,
        default=Load.retries,
        help="ask again where refused for now, as other commands do (no)",
    )
    what = command.add_argument_group("what to ask for")
    what.add_argument("--images", metavar="N", type=int, default=Load.images, help=f"images a call ({Load.images})")
    what.add_argument("--format", choices=("raw", "png", "jpeg", "webp"), default=Load.encoding, help="(raw)")
    _add_model_options(what)
    output = command.add_argument_group("where it goes")
    output.add_argument("--json", metavar="FILE", type=Path, help="write all numbers, in JSON")
    output.add_argument("-o", "--output", metavar="FILE.png", type=Path, help="draw the latencies (or .jpg, .webp)")


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    labels = group.add_mutually_exclusive_group()
    labels.add_argument("--label", metavar="NAME", help="one of the model's labels, for models with labels")
    labels.add_argument("--labels", metavar="X,X,...", type=_floats, help="label vector, to mix labels")
    group.add_argument("--model", metavar="NAME", default="", help="model (the service's default one)")
    group.add_argument(
        "--version", metavar="N|LABEL", type=_version, help="model version, by number or label (the one that serves)"
    )
    group.add_argument("--bulk", action="store_true", help="nobody waits for it: other calls come first")


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
