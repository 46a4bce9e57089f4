"""The options that several commands have: which model, which edits, how far to search, what to write."""

import argparse
from pathlib import Path
from typing import Any

import shtab

from progan_client.command.values import amount, floats, number, path, version
from progan_client.images import DEFAULT_QUALITY


def add_search_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fit",
        choices=("crop", "pad", "stretch"),
        default="crop",
        help="how a picture becomes square: its centre, all of it with white borders, or stretched (default: crop)",
    )
    group.add_argument(
        "--max-evaluations",
        metavar="N",
        type=number(int, 1, 2000),
        default=300,
        help="of the gradient, for each picture; one takes as long as two images (default: 300)",
    )
    group.add_argument(
        "--enough",
        metavar="DB",
        type=number(float, 1, 100),
        default=50.0,
        help="PSNR at which a picture is done; photographs end lower (default: 50)",
    )


def add_model_options(group: argparse._ArgumentGroup) -> None:
    labels = group.add_mutually_exclusive_group()
    labels.add_argument(
        "--label",
        metavar="NAME",
        action="append",
        help="name of a class, for models with labels; repeat it for several attributes",
    )
    labels.add_argument("--labels", metavar="X,X,...", type=floats, help="label vector, for mixtures and degrees")
    group.add_argument(
        "--model", metavar="NAME", default="", help="name of the model (default: the service's default model)"
    )
    group.add_argument(
        "--version",
        metavar="N|LABEL",
        type=version,
        help="model version, by number or label (default: the serving version)",
    )
    group.add_argument("--bulk", action="store_true", help="low priority: the service answers other calls first")


def add_edit_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--edit",
        metavar="NAME=AMOUNT",
        type=amount,
        action="append",
        help="move along a direction of the model by so many standard deviations, such as size=+1.5; repeat it",
    )
    group.add_argument(
        "--set",
        dest="sets",
        metavar="NAME=VALUE",
        type=amount,
        action="append",
        help="move to this many standard deviations, wherever the image is; repeat it",
    )
    add_hold(group)


def add_hold(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--hold", metavar="NAME", action="append", help="direction that is not to change; repeat it")


def add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--format", choices=("png", "jpeg", "webp"), help="format of the files in DIR/ (default: png)")
    add_picture_options(group)


def add_picture_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--quality",
        metavar="N",
        type=number(int, 1, 100),
        help=f"quality of JPEG and WebP, 1 to 100 (default: {DEFAULT_QUALITY})",
    )
    group.add_argument(
        "--scale", metavar="N", type=number(int, 1, 64), default=1, help="draw each pixel as N x N pixels (default: 1)"
    )


def add_file(
    container: argparse._ActionsContainer, *flags: str, type: type[str] | type[Path] = str, **settings: Any
) -> None:
    """Add an option for a path; shells complete it with file names."""
    container.add_argument(*flags, type=path(type), **settings).complete = shtab.FILE  # type: ignore[attr-defined]
