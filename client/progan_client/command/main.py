"""Run `progan-client`. Only this module and `parser` read the command line and the environment."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from progan_client.channel import Tls
from progan_client.client import Client
from progan_client.command.commands import FAILURE, INTERRUPTED, WRONG_USAGE
from progan_client.command.parser import command_parser
from progan_client.command.token import checked_token
from progan_client.command.words import in_options, option_names
from progan_client.errors import ArgumentError, ProganError, UnavailableError

HEALTH_S = 2  # timeout of the health check after a call that found no ready service


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""
    try:
        args = command_parser().parse_args(argv)
        _report_streams()
        args.tls, args.token = _tls(args), _token(args)
        with _client(args) as client:
            code = _run(client, args)
        _flush_output()
        return code
    except ArgumentError as error:
        named = f"{option_names(error.argument)}: {in_options(error.rule)}"
        return _fail(f"{named}; got {error.value!r}", WRONG_USAGE)
    except ProganError as error:
        return _fail(in_options(str(error)), FAILURE)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _drop_output()
        return _fail(f"{error.filename or 'standard output'}: {error.strerror or error}", FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _report_streams() -> None:
    """Report a stream that went on at another server, if somebody watches."""
    log = logging.getLogger("progan_client")
    report = logging.StreamHandler()
    report.setFormatter(logging.Formatter("progan-client: %(message)s"))
    log.handlers = [report]
    log.setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)


def _run(client: Client, args: argparse.Namespace) -> int:
    try:
        return int(args.run(client, args))
    except UnavailableError as error:
        if error.reason or not _is_up(client):
            raise
        reason = "is up but not ready: it has no model yet, or it is shutting down"
        return _fail(f"{args.target} {reason}; see `progan-client models`", FAILURE)


def _flush_output() -> None:
    """Write what was printed. What cannot be written is dropped, or Python would try again when it ends."""
    if sys.stdout is None:  # it was closed before the command began
        return
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        raise


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_up(client: Client) -> bool:
    try:
        return client.health(timeout_s=HEALTH_S) == "NOT_SERVING"
    except ProganError:
        return False


def _client(args: argparse.Namespace) -> Client:
    timeouts = {} if args.timeout is None else {"timeout_s": args.timeout, "stream_timeout_s": args.timeout}
    return Client(args.target, **timeouts, tls=args.tls, token=args.token, allow_plain_token=args.allow_plain_token)


def _tls(args: argparse.Namespace) -> Tls | None:
    if args.use_tls or args.tls_root or args.tls_cert or args.tls_key:
        return Tls(args.tls_root, args.tls_cert, args.tls_key)
    return None


def _token(args: argparse.Namespace) -> str:
    """Read the token from a file or the environment. No option takes it: all users can read command lines."""
    if args.token_file is not None:
        return checked_token(Path(args.token_file).read_bytes(), "--token-file", args.token_file)
    token = os.environ.get("PROGAN_TOKEN", "")
    return token and checked_token(token.encode(errors="replace"), "PROGAN_TOKEN", "other text")


def _fail(sentence: str, code: int) -> int:
    print(f"progan-client: {sentence}", file=sys.stderr)
    return code
