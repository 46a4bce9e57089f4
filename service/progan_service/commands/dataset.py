"""TODO"""

import argparse
from typing import TYPE_CHECKING

from progan_service import exit_codes
from progan_service.host.tensorflow import import_tensorflow

if TYPE_CHECKING:
    pass
from progan_service.commands.terminal import progress_bars


def build_dataset(arguments: argparse.Namespace) -> int:
    from progan_service.data.making import build

    import_tensorflow()
    with progress_bars() as progress:
        summary = build.build_dataset(arguments.source, arguments.out, arguments.resolution, arguments.fit, progress)
    size = f"{summary.resolution}x{summary.resolution}"
    print(
        f"{summary.directory}: {summary.image_count} images, 4x4 to {size}; {summary.ignored_count} other files ignored"
    )
    return exit_codes.DONE


def draw_dataset(arguments: argparse.Namespace) -> int:
    from progan_service.data.making.demo import build_demo

    import_tensorflow()
    with progress_bars() as progress:
        build_demo(arguments.out, arguments.resolution, arguments.count, arguments.seed, progress, arguments.label)
    print(f"{arguments.out}: {arguments.count} faces, 4x4 to {arguments.resolution}x{arguments.resolution}")
    return exit_codes.DONE
