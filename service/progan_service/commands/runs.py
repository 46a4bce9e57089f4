"""`progan runs`, `progan plot` and `progan timelapse`: what runs have been through, without a server or TensorFlow."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from progan_service import exit_codes
from progan_service.commands.terminal import print_table
from progan_service.errors import BadInputError, ConfigError, FileError, ProganError
from progan_service.names import printable
from progan_service.settings.manual import HelpPage, add_path

_HEADINGS = ("RUN", "STATE", "KIMG", "IMAGES", "SWD", "IMAGES/S", "SAVED")
_SWD, _RATE = "metrics/SWDx1e3_avg", "speed/images_per_s"

PLOT_EXAMPLES = """\
examples:
  progan plot runs/faces -o curves.png
  progan plot runs/* -o all.png             several runs in one picture

panels:
  distance   score of real minus score of generated images, an estimate of the
             Wasserstein distance
  losses     of the discriminator and of the generator
  SWD        sliced Wasserstein distance x 10^3, the mean over all levels, of a
             run with --metric-images
  MS-SSIM    between images of the generator; thin: between real images.
             A value near 1 means that all images are alike

The strips above the panels show the stages of growth, fade-ins in a lighter
tone. Runs with different schedules have a strip each.
"""


def add_runs(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "runs",
        help="list training runs and how far they are",
        description="List the training runs in a directory and below it: whether each is running, done or stopped, the "
        "thousands of images shown and to be shown, the resolution, SWD x 10^3 (of a run with --metric-images), "
        "images/s of the last tick, and the time of the newest checkpoint.",
    )
    add_path(
        command, "directory", nargs="?", default=Path("runs"), metavar="DIR", help="directory of runs (default: runs)"
    )
    command.set_defaults(run=lambda given: list_runs(directory=given.directory))


def list_runs(*, directory: Path) -> int:
    """Print a table of the runs in a directory, and then what is wrong with those that cannot be read."""
    from progan_service.training.run.progress import runs_in

    if not directory.is_dir():
        reason = "is a file" if directory.exists() else "no such directory"
        raise ConfigError(f"{directory}: {reason}: give a directory of runs, or a run")
    rows: list[tuple[str, ...]] = []
    problems: list[ProganError] = []
    unreadable: list[FileError] = []
    for run in runs_in(directory, unreadable):
        try:
            rows.append(_row(run))
        except FileError as error:
            if run == directory:
                raise
            problems.append(error)
        except BadInputError as error:
            problems.append(error)
    problems += unreadable
    if rows:
        print_table([_HEADINGS, *rows])
    elif not problems:
        print(f"{directory}: has no runs yet")
    for problem in problems:
        print(printable(str(problem)))
    return exit_codes.DONE


def _row(run: Path) -> tuple[str, ...]:
    from progan_service.training.run.history import read_scalars
    from progan_service.training.run.progress import progress_of

    found = progress_of(run)
    scalars = read_scalars(run, (_SWD, _RATE))
    total_kimg, resolution = found.config.training.total_kimg, found.config.network.resolution
    grown = found.stage.resolution == resolution and not found.stage.fading
    saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.saved_s)) if found.saved_s else ""
    return (
        str(run),
        found.state,
        f"{found.images_shown / 1000:.1f}/{total_kimg:.1f}",
        str(found.stage) if grown else f"{found.stage}, of {resolution}x{resolution}",
        _last(scalars[_SWD], ".2f"),
        _last(scalars[_RATE], ".1f"),
        saved,
    )


def _last(values: Mapping[int, float], spelling: str) -> str:
    """Return the newest value, empty if there is none."""
    return format(list(values.values())[-1], spelling) if values else ""


def add_plot(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "plot",
        help="draw the learning curves of runs",
        formatter_class=HelpPage,
        description="Draw the learning curves of runs, over the images shown.",
        epilog=PLOT_EXAMPLES,
    )
    add_path(command, "runs", nargs="+", metavar="DIR", help="run directory of `progan train`")
    add_output(command, "curves.png (or .jpg, .webp)")
    command.set_defaults(run=lambda given: plot(runs=given.runs, output=given.output))


def plot(*, runs: Sequence[Path], output: Path) -> int:
    """Draw the learning curves of runs."""
    from progan_service.pictures.grid import FORMATS, require_suffix, save_picture
    from progan_service.training.run.curves import curves_of

    require_suffix(output, FORMATS)
    picture = curves_of(runs)
    save_picture(picture, output)
    print(f"{output}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {picture.width}x{picture.height} pixels")
    return exit_codes.DONE


def add_timelapse(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "timelapse",
        help="show how the images of a run became better, as an animation",
        description="Make an animation of the image grids of a run: always the same latents, a frame for each tick.",
    )
    add_path(command, "run_directory", metavar="RUN", help="run directory of `progan train`")
    add_output(command, "timelapse.webp, .gif or .mp4")
    command.add_argument("--fps", metavar="N", type=float, default=8.0, help="frames per second (default: %(default)g)")
    command.set_defaults(run=lambda given: timelapse(run=given.run_directory, output=given.output, fps=given.fps))


def timelapse(*, run: Path, output: Path, fps: float) -> int:
    """Make an animation of the image grids of a run."""
    from progan_service.pictures.animation import animation_format, check_fps, save_animation
    from progan_service.training.run.timelapse import frames_of

    animation_format(output)
    check_fps(fps)
    frames = frames_of(run)
    save_animation(frames, output, fps=fps, last_s=2.0)
    width, height = frames[0].size
    print(f"{output}: {len(frames)} ticks, {width}x{height} pixels")
    return exit_codes.DONE


def add_output(command: argparse.ArgumentParser, forms: str) -> None:
    add_path(command, "-o", "--output", required=True, metavar="FILE", help=f"file to write: {forms}")
