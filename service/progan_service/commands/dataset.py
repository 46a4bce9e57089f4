"""`progan dataset build`, `progan dataset label`, `progan dataset demo` and `progan dataset verify`."""

from pathlib import Path
from typing import Any, get_args

from progan_service import exit_codes
from progan_service.commands.terminal import progress_bars
from progan_service.data.making.conversion import Channels, Fit, Small
from progan_service.decoding.square import Background
from progan_service.names import escaped
from progan_service.settings.manual import add_path

_OUT_HELP = "new directory; its name is the name of the dataset"
_LABELS_HELP = (
    "`folders` (each is a class), `cls` (webdataset's .cls files), or a file: a CSV of file,label (classes), or of "
    "file and several columns of 0 and 1 (attributes), CelebA's list_attr, or StyleGAN's dataset.json"
)


def add_dataset(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "dataset", help="make, label or verify training data", description="Make, label or verify training data."
    )
    kinds = command.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(kinds)
    _add_label(kinds)
    _add_demo(kinds)
    _add_verify(kinds)


def _add_build(kinds: Any) -> None:
    command = kinds.add_parser(
        "build",
        help="make a dataset from a folder, zip or tar of images",
        description="Make a dataset of multi-resolution TFRecords from images of any size. All images are checked "
        "first. If one is broken or too small, the error names it and no files are left. What is no image is counted.",
    )
    add_path(command, "source", metavar="SOURCE", help="folder, zip, tar, .npy, .npz or idx file of images")
    add_path(command, "out", metavar="OUT", help=_OUT_HELP)
    command.add_argument(
        "--resolution", type=int, required=True, metavar="R", help="side of the images, a power of two"
    )
    command.add_argument(
        "--fit",
        choices=get_args(Fit),
        default="crop",
        help="make images square by a centre crop or by borders (default: %(default)s)",
    )
    command.add_argument(
        "--small",
        choices=get_args(Small),
        default="refuse",
        help="refuse images that are smaller than R, put borders around them, or enlarge them (default: %(default)s)",
    )
    command.add_argument(
        "--background",
        choices=get_args(Background),
        default="white",
        help="colour of borders and behind transparent pixels (default: %(default)s)",
    )
    command.add_argument(
        "--channels",
        type=int,
        choices=get_args(Channels),
        default=3,
        help="3 for colour, 1 for grey (default: %(default)s)",
    )
    add_path(command, "--labels", type=str, metavar="LABELS", help=f"take labels of the images from {_LABELS_HELP}")
    command.add_argument(
        "--skip-unusable", action="store_true", help="leave out images that are broken or too small, and name them"
    )
    add_path(
        command,
        "--report",
        metavar="FILE",
        help="CSV file to write: the name of everything that is not in the dataset, and why",
    )
    command.set_defaults(
        run=lambda given: build_dataset(
            source=given.source,
            out=given.out,
            resolution=given.resolution,
            fit=given.fit,
            small=given.small,
            background=given.background,
            channels=given.channels,
            labels=given.labels,
            skip_unusable=given.skip_unusable,
            report=given.report,
        )
    )


def build_dataset(
    *,
    source: Path,
    out: Path,
    resolution: int,
    fit: Fit,
    small: Small,
    background: Background,
    channels: Channels,
    labels: str | None,
    skip_unusable: bool,
    report: Path | None,
) -> int:
    """Make a dataset from images, and print its size and what is not in it."""
    from progan_service.data.making import build

    with progress_bars() as progress:
        summary = build.build_dataset(
            source,
            out,
            resolution,
            fit,
            progress,
            small=small,
            background=background,
            channels=channels,
            labels=labels,
            skip_unusable=skip_unusable,
            report=report,
        )
    size = f"{summary.resolution}x{summary.resolution}"
    print(f"{escaped(str(out))}: {summary.image_count} images, 4x4 to {size}")
    for line in summary.remainder.summary():
        print(f"  {line}")
    if summary.labels:
        print(f"  {summary.labels}")
    return exit_codes.DONE


def _add_label(kinds: Any) -> None:
    command = kinds.add_parser(
        "label",
        help="add labels to a dataset",
        description="Add labels to a dataset that `progan dataset build` made, or replace those that it has. Its "
        "files.csv says which image is which file.",
    )
    add_path(command, "dataset", metavar="DIR", help="dataset made by `progan dataset build`")
    add_path(command, "--labels", type=str, required=True, metavar="LABELS", help=_LABELS_HELP)
    command.set_defaults(run=lambda given: label_dataset(directory=given.dataset, labels=given.labels))


def label_dataset(*, directory: Path, labels: str) -> int:
    """Add labels to a dataset, and print which."""
    from progan_service.data.making.labels import add

    print(f"{escaped(str(directory))}: {add.label_dataset(directory, labels).summary()}")
    return exit_codes.DONE


def _add_demo(kinds: Any) -> None:
    command = kinds.add_parser(
        "demo",
        help="draw a dataset of simple faces, without a download",
        description="Draw a labelled dataset of simple faces. attributes.csv in it lists the attributes of each face.",
    )
    add_path(command, "out", metavar="OUT", help=_OUT_HELP)
    command.add_argument(
        "--resolution",
        type=int,
        default=32,
        metavar="R",
        help="side of the images, a power of two (default: %(default)s)",
    )
    command.add_argument("--count", type=int, default=10000, metavar="N", help="number of faces (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the faces (default: %(default)s)")
    command.add_argument(
        "--label",
        default="glasses",
        metavar="NAME",
        help="attribute whose values become classes; glasses,smile: two attributes (default: %(default)s)",
    )
    command.set_defaults(
        run=lambda given: draw_dataset(
            out=given.out, resolution=given.resolution, count=given.count, seed=given.seed, label=given.label
        )
    )


def draw_dataset(*, out: Path, resolution: int, count: int, seed: int, label: str) -> int:
    """Draw a dataset of faces and print its size."""
    from progan_service.data.making.demo import build_demo

    with progress_bars() as progress:
        build_demo(out, resolution, count, seed, progress, label)
    print(f"{escaped(str(out))}: {count} faces, 4x4 to {resolution}x{resolution}")
    return exit_codes.DONE


def _add_verify(kinds: Any) -> None:
    command = kinds.add_parser(
        "verify",
        help="read every image and check it",
        description="Read a whole dataset. Check that every record fits its checksum, that all resolutions show the "
        "same images, and that labels and dataset.json fit them. Training checks each record that it reads, too.",
    )
    add_path(command, "dataset", metavar="DIR", help="dataset made by `progan dataset`, or by NVIDIA's tools")
    command.set_defaults(run=lambda given: verify_dataset(directory=given.dataset))


def verify_dataset(*, directory: Path) -> int:
    """Read a whole dataset and print its size."""
    from progan_service.data import verify

    with progress_bars(transient=True) as progress:
        dataset = verify.verify_dataset(directory, progress)
    labels = "without labels" if dataset.labels is None else f"{dataset.labels.shape[1]} labels"
    size = f"{dataset.resolution}x{dataset.resolution}"
    name = escaped(str(directory))
    print(f"{name}: {dataset.count} images, 4x4 to {size}, {labels}: all records are whole and all sizes agree")
    return exit_codes.DONE
