"""`progan grid` and `progan walk`: pictures of a run, a version or a file of weights, without a server."""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from progan_service import exit_codes
from progan_service.commands.runs import add_output
from progan_service.errors import ConfigError
from progan_service.host.tensorflow import import_tensorflow
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.latents.walks import (
    EvenPace,
    OppositeLatentsError,
    Pace,
    UniformPace,
    WalkPath,
    check_path,
    even_pace,
    probes_a_segment,
    walk,
    walk_length,
)
from progan_service.settings.manual import add_path

if TYPE_CHECKING:
    from progan_service.sources.fakes import Fakes

_MAX_SEED = 2**64 - 1
_MAX_IMAGES = 10_000  # in one picture or animation
_LOOP_OF = (0, 1, 2, 3)  # seeds


def add_grid(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "grid",
        help="draw images of a run, a version or a file of weights in one picture",
        description="Draw images of a run, a version or a file of weights in one picture. The same seed gives the same "
        "image as progan-client generate, once the generator is served.",
    )
    _add_source(command)
    add_output(command, "grid.png (or .jpg, .webp)")
    one = command.add_mutually_exclusive_group()
    one.add_argument("--seed", type=_seed, default=0, metavar="N", help="first seed (default: %(default)s)")
    one.add_argument("--seeds", type=_seeds, metavar="N,N,...", help="one seed per image")
    command.add_argument(
        "--count", type=int, metavar="N", help="number of images, with consecutive seeds (default: 32)"
    )
    command.add_argument("--columns", type=int, metavar="N", help="columns of the picture (default: twice the rows)")
    _add_look(command, "for a class; repeat it for several attributes (default: the classes in turn)")
    command.set_defaults(
        run=lambda given: grid(
            source=given.source,
            output=given.output,
            seeds=_chosen_seeds(given.seed, given.seeds, given.count),
            columns=given.columns,
            scale=given.scale,
            labels=given.label,
        )
    )


def grid(
    *, source: Path, output: Path, seeds: Sequence[int], columns: int | None, scale: int | None, labels: Sequence[str]
) -> int:
    """Draw the images of seeds in one picture.

    columns, scale   None: twice as many columns as rows, and images of a size that is easy to see
    labels           names; none: the classes in turn
    """
    from progan_service.pictures.grid import FORMATS, image_grid, readable_scale, require_suffix, save_picture

    require_suffix(output, FORMATS)
    _require_at_least_1(columns=columns, scale=scale)
    fakes = _opened(source)
    latents = latents_from_seeds(np.array(seeds, np.uint64), fakes.latent_size)
    images = np.concatenate(list(fakes.draw(latents, _labels(source, fakes, labels, len(seeds)))))
    columns = min(len(seeds), columns or max(1, round(math.sqrt(2 * len(seeds)))))
    picture = image_grid(images, columns, scale or readable_scale(fakes.resolution))
    save_picture(picture, output)
    print(f"{output}: {_count(len(images), 'image')} of {source}, {picture.width}x{picture.height} pixels")
    return exit_codes.DONE


def add_walk(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "walk",
        help="make a walk through the latent space of a run, a version or a file of weights",
        description="Make an animation of a walk through the latent space of a run, a version or a file of weights, as "
        "progan-client walk does.",
    )
    _add_source(command)
    add_output(command, "walk.webp, .gif or .mp4")
    command.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N,N,...",
        help="seeds of two or more key frames (default: 0,1,2,3 in a loop)",
    )
    command.add_argument(
        "--frames", type=int, default=30, metavar="N", help="new frames between two key frames (default: %(default)s)"
    )
    paths = command.add_mutually_exclusive_group()
    for path, text in {
        "linear": "follow straight lines instead of great circles",
        "smooth": "follow a curve without a turn at key frames",
    }.items():
        paths.add_argument(f"--{path}", dest="path", action="store_const", const=path, default="spherical", help=text)
    command.add_argument(
        "--even", action="store_true", help="let neighbouring frames differ by the same amount; takes longer"
    )
    command.add_argument("--loop", action="store_true", help="return from the last key frame to the first")
    command.add_argument(
        "--fps", type=float, default=24.0, metavar="N", help="frames per second (default: %(default)g)"
    )
    _add_look(command, "for a class; repeat it for several attributes (default: the first class)")
    command.set_defaults(
        run=lambda given: draw_walk(
            source=given.source,
            output=given.output,
            seeds=given.seeds or _LOOP_OF,
            frames=given.frames,
            path=given.path,
            even=given.even,
            loop=given.loop or given.seeds is None,
            fps=given.fps,
            scale=given.scale,
            labels=given.label,
        )
    )


def draw_walk(
    *,
    source: Path,
    output: Path,
    seeds: Sequence[int],
    frames: int,
    path: WalkPath,
    even: bool,
    loop: bool,
    fps: float,
    scale: int | None,
    labels: Sequence[str],
) -> int:
    """Make an animation of a walk over the latents of seeds.

    frames   between two key frames
    scale    None: images of a size that is easy to see
    labels   names; none: the first class
    """
    from progan_service.pictures.animation import animation_format, check_fps, save_animation
    from progan_service.pictures.grid import enlarged, readable_scale, to_picture

    animation_format(output)
    check_fps(fps)
    _require_at_least_1(scale=scale)
    count = _frame_count(len(seeds), frames, loop)
    fakes = _opened(source)
    keys = latents_from_seeds(np.array(seeds, np.uint64), fakes.latent_size)
    _check_path(keys, path, loop)
    label = _labels(source, fakes, labels, 1)

    def images(pace: Pace, count: int) -> Iterator[NDArray[np.uint8]]:
        latents = walk(keys, pace.places(0, count), path, loop=loop)
        return fakes.draw(latents, label.repeat(count, axis=0))

    pace = _even_pace(images, len(seeds), frames, loop) if even else UniformPace(frames)
    factor = scale or readable_scale(fakes.resolution)
    pictures = [to_picture(enlarged(image, factor)) for batch in images(pace, count) for image in batch]
    save_animation(pictures, output, fps=fps)
    width, height = pictures[0].size
    print(f"{output}: {_count(count, 'frame')} of {source}, {width}x{height} pixels, {count / fps:.3g} s")
    return exit_codes.DONE


def _check_path(keys: NDArray[np.float32], path: WalkPath, loop: bool) -> None:
    try:
        check_path(keys, path, loop=loop)
    except OppositeLatentsError as error:
        raise ConfigError(f"--seeds: {error}: give other seeds, or --linear") from error


def _even_pace(
    images: Callable[[Pace, int], Iterator[NDArray[np.uint8]]], keys: int, frames: int, loop: bool
) -> EvenPace:
    """Make images along the path at a uniform pace, compare them, and return the pace that is even."""
    from progan_service.evaluation.changes import Changes

    each, changes = probes_a_segment(frames), Changes(loop=loop)
    for batch in images(UniformPace(each - 1), walk_length(keys, each - 1, loop)):
        changes.add(batch)
    return even_pace(changes.all(), each, walk_length(keys, frames, loop), loop=loop)


def _frame_count(seeds: int, frames: int, loop: bool) -> int:
    """Return the number of frames of a walk. Raises ConfigError for a walk that is none, or is too long."""
    if seeds < 2:
        raise ConfigError(f"--seeds has {_count(seeds, 'seed')}: a walk needs two or more")
    if frames < 0:
        raise ConfigError(f"--frames is {frames}: must be 0 or more")
    count = walk_length(seeds, frames, loop)
    if count > _MAX_IMAGES:
        raise ConfigError(f"--frames is {frames}: gives {count} frames, and an animation has {_MAX_IMAGES} at most")
    return count


def _add_source(command: argparse.ArgumentParser) -> None:
    add_path(
        command,
        "source",
        metavar="SOURCE",
        help="run directory of `progan train`; STORE/MODEL/VERSION; snapshot or other file of weights",
    )


def _add_look(command: argparse.ArgumentParser, use: str) -> None:
    command.add_argument(
        "--scale", type=int, metavar="N", help="draw each pixel as N x N pixels (default: images of 64 pixels or more)"
    )
    command.add_argument("--label", action="append", default=[], metavar="NAME", help=f"name of a label, {use}")


def _opened(source: Path) -> "Fakes":
    import_tensorflow()
    from progan_service.sources.fakes import Fakes

    return Fakes.open(source)


def _labels(source: Path, fakes: "Fakes", names: Sequence[str], count: int) -> NDArray[np.float32]:
    """Return labels [count, K] with these names; of none, the classes in turn, or no attribute."""
    classes = fakes.label_kind == "classes"
    if not names:
        labels = np.zeros((count, fakes.label_size), np.float32)
        if classes and fakes.label_size:
            labels[np.arange(count), np.arange(count) % fakes.label_size] = 1
        return labels
    if classes and len(names) > 1:
        raise ConfigError(f"--label is given {len(names)} times: {source} has classes, and an image has one class")
    known = fakes.label_names or tuple(map(str, range(fakes.label_size)))
    for name in names:
        if name not in known:
            there = f"its labels are {', '.join(known)}" if known else "it has no labels"
            raise ConfigError(f"--label is {name!r}: {source} has no such label; {there}")
    row = np.array([label in names for label in known], np.float32)
    return row[None].repeat(count, axis=0)


def _chosen_seeds(first: int, seeds: Sequence[int] | None, count: int | None) -> list[int]:
    """Return the seeds of a grid. Raises ConfigError for options that do not fit together."""
    if seeds is not None:
        if count is not None:
            raise ConfigError("--count is for --seed: with --seeds there are as many images as seeds")
        return list(seeds)
    _require_at_least_1(count=count)
    if count is not None and count > _MAX_IMAGES:
        raise ConfigError(f"--count is {count}: a picture has {_MAX_IMAGES} images at most")
    return [int(seed) for seed in seed_range(first, 32 if count is None else count)]


def _require_at_least_1(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ConfigError(f"--{name} is {value}: must be 1 or more")


def _seed(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) <= _MAX_SEED:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^64 - 1; got {text!r}")


def _seeds(text: str) -> list[int]:
    return [_seed(part.strip()) for part in text.split(",")]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
