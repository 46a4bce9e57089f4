"""TODO"""

import argparse
import sys
from typing import TYPE_CHECKING

from progan_service import exit_codes
from progan_service.errors import BadInputError
from progan_service.settings import serve as serve_options

if TYPE_CHECKING:
    pass


def serve(arguments: argparse.Namespace) -> int:
    import uvloop

    from progan_service.serving import process
    from progan_service.serving.listen import ListenError
    from progan_service.serving.watching import logs, traces

    configuration = serve_options.configuration(arguments)
    config = configuration.config
    with logs.logging_to(logs.STDOUT, config.logs), traces.exporting(arguments.environment):
        logs.announce(f"configuration: {configuration}", settings=configuration.settings)
        try:
            uvloop.run(process.serve(config))
        except (BadInputError, OSError, ListenError) as error:
            print(logs.fatal_line(config.logs, str(error)), file=sys.stderr)
            return exit_codes.BAD_CONFIG if isinstance(error, BadInputError) else exit_codes.FAILED
    return exit_codes.DONE
