"""Makes a dataset of pictures of any size, for `progan dataset build`.

It takes two passes with one picture in memory at a time: all pictures are decoded and checked before any is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError, PictureError
from progan_service.data.making.archives import SourceFile, UnreadableFileError, open_source
from progan_service.data.making.kinds import is_picture
from progan_service.data.making.picture import decode_rgb
from progan_service.data.making.records import check_resolution, write_dataset
from progan_service.data.making.square import Fit, check_size, to_square
from progan_service.data.manifest import Manifest
from progan_service.host.files import new_directory
from progan_service.license import is_license_name, text_of
from progan_service.progress import Progress

_SHUFFLE_SEED = 123  # as in NVIDIA's dataset tool: the same files in the same order give the same dataset
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class BuildSummary:
    """The result of a build."""

    directory: Path
    resolution: int
    image_count: int
    ignored_count: int  # files whose names are not those of pictures
    license_found: bool


def build_dataset(source: Path, out: Path, resolution: int, fit: Fit, progress: Progress) -> BuildSummary:
    """Make the dataset directory `out` of all pictures in `source`. It appears complete or not at all.

    Args:
        source: a folder (searched to any depth), zip or tar (also compressed) of pictures; folder names are ignored.
        out: the new directory; its name becomes the dataset's.
        resolution: height and width of the full images: a power of two from 4 to 1024.
        fit: "crop" takes the centre square, "pad" keeps the whole picture on white.
        progress: called with ("Checking" | "Writing", done, total) after each picture.

    Raises:
        DatasetError: an argument is out of range, the source is unreadable or empty, or pictures are broken or small:
            the message names up to 20 of them and their number.
        ConfigError: `out` exists.
        FileError: `out` cannot be written.
    """
    check_resolution(resolution)
    if fit not in get_args(Fit):
        raise DatasetError(f"fit is {fit!r}: it must be one of {', '.join(get_args(Fit))}")
    with new_directory(out) as directory, open_source(source, scratch=directory) as files:
        pictures = [file for file in files if is_picture(file.name, b"")]
        if not pictures:
            raise DatasetError(
                f"{source}: holds no pictures ({len(files)} other files): looked for .jpg, .png, .webp, …"
            )
        _check_pictures(source, pictures, resolution, fit, progress)
        license_text = _license_text(files)
        manifest = Manifest(source.resolve().name, len(pictures), resolution, fit=fit, license_text=license_text)
        images = _shuffled_images(source, pictures, resolution, fit, progress)
        write_dataset(directory, out.resolve().name, images, manifest)
    ignored_count = len(files) - len(pictures)
    return BuildSummary(out, resolution, len(pictures), ignored_count, license_text is not None)


def _check_pictures(source: Path, pictures: list[SourceFile], resolution: int, fit: Fit, progress: Progress) -> None:
    problems: list[str] = []
    for done, picture in enumerate(pictures, start=1):
        try:
            check_size(decode_rgb(picture.read(), resolution), resolution, fit)
        except (UnreadableFileError, PictureError) as error:
            problems.append(f"{picture.name}: {error}")
        progress("Checking", done, len(pictures))
    if problems:
        shown = problems[:_SHOWN_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        count = f"{len(problems)} of {len(pictures)} pictures cannot be used: mend or remove them"
        raise DatasetError("\n  ".join([f"{source}: {count}", *shown]))


def _shuffled_images(
    source: Path, pictures: list[SourceFile], resolution: int, fit: Fit, progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    order = np.arange(len(pictures))
    np.random.RandomState(_SHUFFLE_SEED).shuffle(order)
    for done, index in enumerate(order, start=1):
        try:
            image = decode_rgb(pictures[index].read(), resolution)
        except (UnreadableFileError, PictureError) as error:
            raise DatasetError(f"{source}: {pictures[index].name} changed while it was read: {error}") from None
        yield to_square(image, resolution, fit)
        progress("Writing", done, len(pictures))


def _license_text(files: list[SourceFile]) -> str | None:
    """Return the text of the licence file nearest to the root of the source, or None."""
    found = [file for file in files if is_license_name(file.name)]
    for file in sorted(found, key=lambda file: file.name.count("/")):
        try:
            text = text_of(file.read())
        except UnreadableFileError:
            continue
        if text:
            return text
    return None
