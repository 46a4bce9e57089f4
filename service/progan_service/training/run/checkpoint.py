"""Checkpoints: everything a run needs to go on, in one file, written atomically.

A checkpoint is `images-NNNNNNNNN.npz`: one array per variable of the networks and optimizers, `images_shown`, `stage`,
`config_digest`, which ties it to its run, and `format_version`. Arrays of newer releases are ignored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from progan_service import formats
from progan_service.errors import BadInputError, FileError
from progan_service.host.faults import named
from progan_service.host.files import replaced

if TYPE_CHECKING:
    import tensorflow as tf

FORMAT_VERSION = 1
KEPT = 2  # the newest, and one to fall back to


class CheckpointError(BadInputError):
    """A checkpoint that cannot be read or does not fit; the message names the file and the reason."""


def latest_checkpoint(directory: Path) -> Path | None:
    """Return the newest checkpoint of a directory, None where there is none."""
    return max(_checkpoints(directory), key=images_shown_at_checkpoint, default=None)


def _checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a directory. A copy that somebody keeps beside them under another name is none."""
    return [file for file in directory.glob("images-*.npz") if file.stem.removeprefix("images-").isdecimal()]


def images_shown_at_checkpoint(path: Path) -> int:
    """Return the number of images in the name of a checkpoint."""
    return int(path.stem.removeprefix("images-"))


def save_checkpoint(directory: Path, images_shown: int, arrays: Mapping[str, NDArray[np.generic]]) -> Path:
    """Write a checkpoint and remove all but the newest KEPT; a kill at any moment leaves the earlier ones whole.

    Raises FileError.
    """
    path = directory / f"images-{images_shown:09d}.npz"
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{formats.VERSION_KEY: np.array(FORMAT_VERSION)}, **arrays)
    for old in sorted(_checkpoints(directory), key=images_shown_at_checkpoint)[:-KEPT]:
        old.unlink()
    return path


def read_checkpoint(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return all arrays by name, `images_shown` among them. Raises CheckpointError for a damaged or newer file."""
    try:
        with named(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        formats.check_version(arrays.pop(formats.VERSION_KEY, np.array(1)).item(), FORMAT_VERSION)
        if missing := {"images_shown", "stage", "config_digest"} - arrays.keys():
            raise ValueError(f"holds no {min(missing)}")
    except FileError:
        raise
    except formats.NewerFormatError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # a damaged file leads NumPy and zipfile to errors of many kinds
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({error}); remove it to go on from the one before"
        ) from error
    return arrays


def assign_variables(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], variables: Mapping[str, "tf.Variable"]
) -> None:
    """Give each variable the array of its name. Raises CheckpointError, before any change, when one does not fit."""
    for name, variable in variables.items():
        if name not in arrays:
            raise CheckpointError(f"{path}: holds no {name}; it belongs to another network")
        found, expected = arrays[name].shape, tuple(variable.shape)
        if found != expected:
            raise CheckpointError(f"{path}: {name} has shape {found}, not {expected}; another network")
    for name, variable in variables.items():
        variable.assign(arrays[name])
