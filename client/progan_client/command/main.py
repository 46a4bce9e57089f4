"""Run `progan-client`. Only this module and `parser` read the command line and the environment."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from progan_client.channel import Tls
from progan_client.client import Client
from progan_client.command.commands import FAILURE, INTERRUPTED, NOBODY_READS, WRONG_USAGE
from progan_client.command.parser import command_parser
from progan_client.command.terminal import complain, drop_output, flush_output, print_any_text
from progan_client.command.token import checked_token
from progan_client.command.usage import UsageError, input_of
from progan_client.command.words import in_options, option_names
from progan_client.errors import ArgumentError, ProganError, UnavailableError

HEALTH_S = 2  # timeout of the health check after a call that found no ready service


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 success, 1 failure, 2 wrong usage, 130 interrupted, 141 not read."""
    print_any_text()
    try:
        code = _command(argv)
        flush_output()
        return code
    except UsageError as error:
        return _fail(str(error), WRONG_USAGE)
    except ArgumentError as error:
        got = "" if error.value is None else f"; got {error.value!r}"
        return _fail(f"{option_names(error.argument)}: {in_options(error.rule)}{got}", WRONG_USAGE)
    except ProganError as error:
        return _fail(in_options(str(error)), FAILURE)
    except BrokenPipeError:  # as of `| head -1`
        drop_output()
        return NOBODY_READS
    except OSError as error:
        return _fail(f"{error.filename or 'standard output'}: {error.strerror or error}", FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _command(argv: Sequence[str] | None) -> int:
    try:
        args = command_parser().parse_args(argv)
    except SystemExit as leaving:  # after --help, or wrong usage
        return int(leaving.code or 0)
    _report_streams()
    args.tls, args.token = _tls(args), _token(args)
    with _client(args) as client:
        return _run(client, args)


def _report_streams() -> None:
    """Report a stream that went on at another server, if somebody watches."""
    log = logging.getLogger("progan_client")
    log.handlers = [_Complaining()]
    log.setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)


class _Complaining(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def _run(client: Client, args: argparse.Namespace) -> int:
    try:
        return int(args.run(client, args))
    except UnavailableError as error:
        if error.reason or not _is_up(client):
            raise
        reason = "is up but not ready: it has no model yet, or it is shutting down"
        return _fail(f"{args.target} {reason}; see `progan-client models`", FAILURE)


def _is_up(client: Client) -> bool:
    try:
        return client.health(timeout_s=HEALTH_S) == "NOT_SERVING"
    except ProganError:
        return False


def _client(args: argparse.Namespace) -> Client:
    timeouts = {} if args.timeout is None else {"timeout_s": args.timeout, "stream_timeout_s": args.timeout}
    return Client(args.target, **timeouts, tls=args.tls, token=args.token, allow_plain_token=args.allow_plain_token)


def _tls(args: argparse.Namespace) -> Tls | None:
    files = {"--tls-root": args.tls_root, "--tls-cert": args.tls_cert, "--tls-key": args.tls_key}
    given = {option: path for option, path in files.items() if path is not None}
    if len(given.keys() & {"--tls-cert", "--tls-key"}) == 1:
        raise UsageError("give both --tls-cert and --tls-key, or neither")
    for option, path in given.items():
        with input_of(option, path):
            Path(path).open("rb").close()
    return Tls(*files.values()) if given or args.use_tls else None


def _token(args: argparse.Namespace) -> str:
    """Read the token from a file or the environment. No option takes it: all users can read command lines."""
    if args.token_file is not None:
        with input_of("--token-file", args.token_file):
            content = Path(args.token_file).read_bytes()
        return checked_token(content, "--token-file", args.token_file)
    token = os.environ.get("PROGAN_TOKEN", "")
    return token and checked_token(token.encode(errors="replace"), "PROGAN_TOKEN", "other text")


def _fail(sentence: str, code: int) -> int:
    complain(sentence)
    return code
