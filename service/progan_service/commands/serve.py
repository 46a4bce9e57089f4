"""The command `progan serve`: read the settings, serve, and end with an exit code."""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progan_service import exit_codes
from progan_service.host.aside import anything_runs
from progan_service.host.faults import translated
from progan_service.host.signals import as_usual, leave_at_once
from progan_service.names import printable
from progan_service.serving.config import ServerConfig
from progan_service.settings.manual import HelpPage, add_path, add_settings, given_settings
from progan_service.settings.source import Sourced, read_settings, unknown_variables

DESCRIPTION = """\
Serve the newest good version of each model of a store, or the version that
`progan models pin` chose. The server polls the store. It verifies and warms up
a new version in the background and then switches to it. If a version is bad,
the server logs an error and keeps the old version.

settings:
  The value of a setting comes from its flag, else from its environment
  variable, else from the file of --config, else from its default. The flag
  --max-images is PROGAN_MAX_IMAGES in the environment and max_images in the
  file, which is TOML. Switches such as --log-requests are true or false there.
  An empty variable counts as not given.

shutdown:
  On SIGTERM, SIGHUP or Ctrl-C the server reports "not ready" and goes on
  serving (lame duck). Then it refuses new calls, finishes those in flight
  (drain) and exits with 0. A second signal, more than a second later, ends it
  at once with exit code 1."""

EXAMPLES = """\
examples:
  Serve the bundled models to this machine only:
    progan serve

  Serve your own models to other machines:
    progan serve --store models --host 0.0.0.0

  Serve a store in Google Cloud Storage, and keep its copy between starts:
    progan serve --store gs://bucket/models --cache /var/cache/progan

  Set common values in a file and special ones in the environment:
    PROGAN_PORT=9000 progan serve --config progan.toml

  where progan.toml contains, for example:
    store = "/models"
    max_batch_size = 32
    log_format = "json" """.rstrip()

log = logging.getLogger(__name__)


def add_serve(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "serve",
        help="serve the models of a store over gRPC and HTTP",
        formatter_class=HelpPage,
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    add_path(command, "--config", metavar="FILE", help="TOML file with settings")
    add_settings(command, ServerConfig)
    command.set_defaults(
        run=lambda given: serve(flags=given_settings(given, ServerConfig), environment=os.environ, file=given.config)
    )


def serve(*, flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None) -> int:
    """Serve until a signal arrives. The settings come from flags, environment and a TOML file."""
    if sys.__stdout__ is None:
        print("progan: standard output is closed, so the log is lost", file=sys.stderr)
    leave_at_once()  # until the server takes over
    try:
        return _serve(read_settings(ServerConfig, flags=flags, environment=environment, file=file), environment)
    finally:
        as_usual()


def _serve(sourced: Sourced[ServerConfig], environment: Mapping[str, str]) -> int:
    import uvloop

    from progan_service.serving import process
    from progan_service.serving.watching import logs, traces

    config = sourced.config
    try:
        with logs.logging_to(logs.STDOUT, config.logs), traces.exporting(environment):
            logs.announce(f"configuration: {sourced}", settings=sourced.settings)
            for warning in unknown_variables(ServerConfig, environment):
                log.warning(warning)
            uvloop.run(process.serve(config))
    except Exception as error:  # the log is written, so that this comes last
        reported = translated(error)
        if reported is None:
            raise
        print(logs.fatal_line(config.logs, printable(str(reported))), file=sys.stderr)
        return reported.exit_code
    if anything_runs():
        os._exit(exit_codes.DONE)  # a thread that hangs in TensorFlow could crash while the interpreter ends
    return exit_codes.DONE
