"""TODO"""

import argparse
import sys
from typing import TYPE_CHECKING

from progan_service import exit_codes
from progan_service.host.faults import translated
from progan_service.settings import serve as serve_options

if TYPE_CHECKING:
    pass


def serve(arguments: argparse.Namespace) -> int:
    import uvloop

    from progan_service.serving import process
    from progan_service.serving.watching import logs, traces

    configuration = serve_options.configuration(arguments)
    config = configuration.config
    with logs.logging_to(logs.STDOUT, config.logs), traces.exporting(arguments.environment):
        logs.announce(f"configuration: {configuration}", settings=configuration.settings)
        try:
            uvloop.run(process.serve(config))
        except Exception as error:
            reported = translated(error)
            if reported is None:
                raise
            print(logs.fatal_line(config.logs, str(reported)), file=sys.stderr)
            return reported.exit_code
    return exit_codes.DONE
