"""Makes a dataset of pictures of any size, for `progan dataset build`.

It takes two passes over the collection: all pictures are decoded and checked before any is written. Nothing of a
collection is passed over in silence: what is not in the dataset is counted and named with the reason.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from progan_service.data.errors import DatasetError
from progan_service.data.making.collection.files import LeftOut, SourceFile, UnreadableFileError
from progan_service.data.making.collection.foreign import foreign_kind
from progan_service.data.making.collection.opening import open_collection
from progan_service.data.making.collection.unpacking import Scratch
from progan_service.data.making.conversion import Channels, Conversion, Fit, Small, TooSmallError
from progan_service.data.making.image_names import write_image_names
from progan_service.data.making.labels.labels import NO_LABELS
from progan_service.data.making.labels.read import OpenLabels, labels_in_sight, open_labels
from progan_service.data.making.records import write_labels, write_levels
from progan_service.data.making.remainder import Remainder
from progan_service.data.making.workers import Workers
from progan_service.data.manifest import Manifest
from progan_service.decoding.errors import PictureError
from progan_service.decoding.kinds import is_picture, refusal
from progan_service.decoding.square import Background
from progan_service.host.cpus import available_cpus
from progan_service.host.files import new_directory
from progan_service.license import is_license_name, text_of
from progan_service.names import escaped, shown
from progan_service.progress import Progress

_SHUFFLE_SEED = 123  # as in NVIDIA's dataset tool: the same files in the same order give the same dataset
_WORTH_A_PROCESS = 32  # pictures; small ones are decoded before a process has started


@dataclass(frozen=True)
class BuildSummary:
    """The result of a build. `labels` says in a sentence which there are, or what looks like some; it may be empty."""

    directory: Path
    resolution: int
    image_count: int
    remainder: Remainder
    license_found: bool
    labels: str


def build_dataset(
    source: Path,
    out: Path,
    resolution: int,
    fit: Fit,
    progress: Progress,
    *,
    small: Small = "refuse",
    background: Background = "white",
    channels: Channels = 3,
    skip_unusable: bool = False,
    report: Path | None = None,
    labels: str | None = None,
    cpus: int | None = None,
) -> BuildSummary:
    """Make the dataset directory `out` of all pictures in `source`. It appears complete or not at all.

    `files.csv` in it names the file of each image. The dataset is the same to the byte whatever the number of CPUs.

    Args:
        source: a collection that `open_collection` opens: a folder, zip or tar, say.
        out: the new directory; its name becomes the dataset's.
        resolution, fit, small, background, channels: how pictures become images, see `Conversion`.
        progress: called with ("Checking" | "Writing", done, total) after each file.
        skip_unusable: leave pictures out that are broken or too small, instead of making nothing.
        report: a CSV file to write, which names all that is not in the dataset and why, also when nothing is made.
        labels: read labels from there; see `open_labels`.
        cpus: decode so many pictures at once; None: as many as this process has CPUs.

    Raises:
        DatasetError: an argument is out of range, the source is unreadable or has no pictures, or pictures are broken
            or small, or labels do not fit: the message names up to 20 of them and their number.
        ConfigError: `out` exists.
        FileError: `out` or `report` cannot be written.
    """
    conversion = Conversion(resolution, fit, small, background, channels)
    remainder = Remainder(source, report)
    with new_directory(out) as directory, open_collection(source, Scratch(directory, out, progress)) as collection:
        license_file, license_text = _license(collection.files)
        others = _others(collection.files)
        opened = open_labels(labels, others) if labels else OpenLabels(lambda pictures: NO_LABELS)
        files = [file for file in collection.files if file is not license_file and file.name not in opened.files]
        remainder.left_out += collection.left_out
        with Workers(conversion, _worker_count(len(files), cpus)) as workers:
            usable = _usable(files, workers, remainder, progress)
            remainder.close(len(usable), skip_unusable)
            pictures = _shuffled(usable)
            names = [picture.name for picture in pictures]
            found = opened.of([*names, *(picture.name for picture in remainder.unusable)]).first(len(names))
            records = _records(source, pictures, workers, progress)
            write_levels(directory, out.resolve().name, resolution, records)
        write_image_names(directory, names)
        if found.names:
            write_labels(directory, out.resolve().name, found.values)
        Manifest(
            escaped(source.resolve().name),
            len(names),
            resolution,
            channels=channels,
            fit=fit,
            small=small,
            background=background,
            label_names=found.names,
            label_kind=found.kind,
            license_text=license_text,
        ).write(directory)
    sentence = found.summary() if found.names else labels_in_sight(names, others)
    return BuildSummary(out, resolution, len(names), remainder, license_text is not None, sentence)


def _others(files: Iterable[SourceFile]) -> dict[str, Callable[[], bytes]]:
    """Return the content of all files that are not named like pictures, on demand. It raises DatasetError."""

    def content(file: SourceFile) -> bytes:
        try:
            return file.read()
        except UnreadableFileError as error:
            raise DatasetError(f"{shown(file.name)}: {error}") from None

    return {file.name: partial(content, file) for file in files if not is_picture(file.name, b"")}


def _worker_count(files: int, cpus: int | None) -> int:
    return max(1, min(cpus or available_cpus(), files // _WORTH_A_PROCESS))


def _usable(files: list[SourceFile], workers: Workers, remainder: Remainder, progress: Progress) -> list[SourceFile]:
    """Decode all pictures and return those that can be used. What other files are is noted in the remainder."""

    def check(file: SourceFile) -> Callable[[], None]:
        """Return what is to be done with the file; it is done in order, by the thread that builds."""
        try:
            head = b"" if is_picture(file.name, b"") else file.head()
            if not is_picture(file.name, head):
                reason = foreign_kind(head) or refusal(head)
                return lambda: remainder.left_out.append(LeftOut(file.name, reason))
            workers.check(file.read())
        except TooSmallError as error:
            return partial(remainder.refuse_small, file.name, error)
        except (UnreadableFileError, PictureError) as error:
            unusable = LeftOut(file.name, str(error))
            return lambda: remainder.unusable.append(unusable)
        return lambda: usable.append(file)

    usable: list[SourceFile] = []
    for done, decide in enumerate(workers.map(check, files), start=1):
        decide()
        progress("Checking", done, len(files))
    return usable


def _shuffled(files: list[SourceFile]) -> list[SourceFile]:
    order = np.arange(len(files))
    np.random.RandomState(_SHUFFLE_SEED).shuffle(order)
    return [files[index] for index in order]


def _records(source: Path, files: list[SourceFile], workers: Workers, progress: Progress) -> Iterator[bytes]:
    def records(file: SourceFile) -> bytes:
        try:
            return workers.records(file.read())
        except (UnreadableFileError, PictureError) as error:
            raise DatasetError(f"{source}: {shown(file.name)} changed while it was read: {error}") from None

    for done, record in enumerate(workers.map(records, files), start=1):
        yield record
        progress("Writing", done, len(files))


def _license(files: list[SourceFile]) -> tuple[SourceFile | None, str | None]:
    """Return the licence file nearest to the root of the source, and its text; None and None without one."""
    found = [file for file in files if is_license_name(file.name)]
    for file in sorted(found, key=lambda file: file.name.count("/")):
        with suppress(UnreadableFileError):
            if text := text_of(file.read()):
                return file, text
    return None, None
