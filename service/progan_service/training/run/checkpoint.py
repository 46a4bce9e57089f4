"""Checkpoints: everything a run needs to go on, in one file, written atomically.

A checkpoint is `images-NNNNNNNNN.npz`: one array per variable of the networks and optimizers, `images_shown`, `stage`,
`config_digest`, which ties it to its run, `format_version`, and `sha256` of all that. Arrays of newer releases are
ignored.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from progan_service import formats
from progan_service.errors import BadInputError
from progan_service.host.arrays import DamagedArrayError, digest_of_arrays, read_archive
from progan_service.host.faults import named
from progan_service.host.files import replaced

if TYPE_CHECKING:
    import tensorflow as tf

FORMAT_VERSION = 1
KEPT = 2  # the newest, and one to fall back to

_NAME = re.compile(r"images-(\d{9,})\.npz", re.ASCII)
_DIGEST = "sha256"
_PROGRESS = {"images_shown": ((), "iu"), "stage": ((2,), "iu"), "config_digest": ((), "U")}  # shapes, kinds of types


class CheckpointError(BadInputError):
    """A checkpoint that cannot be read or does not fit; the message names the file and the reason."""


class DamagedCheckpointError(CheckpointError):
    """A file that is no whole checkpoint. The checkpoint before it may be one."""


def checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a directory, the newest first. Files of other names are none."""
    found = [file for file in directory.glob("images-*.npz") if _NAME.fullmatch(file.name) and file.is_file()]
    return sorted(found, key=images_shown_at_checkpoint, reverse=True)


def latest_checkpoint(directory: Path) -> Path | None:
    """Return the newest checkpoint of a directory, None where there is none."""
    return next(iter(checkpoints(directory)), None)


def checkpoint_path(directory: Path, images_shown: int) -> Path:
    """Return the path of the checkpoint after that many images."""
    return directory / f"images-{images_shown:09d}.npz"


def images_shown_at_checkpoint(path: Path) -> int:
    """Return the number of images in the name of a checkpoint."""
    return int(path.stem.removeprefix("images-"))


def save_checkpoint(directory: Path, images_shown: int, arrays: Mapping[str, NDArray[np.generic]]) -> Path:
    """Write a checkpoint and remove all but the newest KEPT; a kill at any moment leaves the earlier ones whole.

    Those of more images are removed, too: the run went on from before them, because they were damaged.
    Raises FileError.
    """
    path = checkpoint_path(directory, images_shown)
    content = {formats.VERSION_KEY: np.array(FORMAT_VERSION), **arrays}
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **content, **{_DIGEST: np.array(digest_of_arrays(content))})
    found = checkpoints(directory)
    with named(directory):
        for other in {*found[: found.index(path)], *found[found.index(path) + KEPT :]}:
            other.unlink(missing_ok=True)
    return path


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays by name, `images_shown` among them.

    Raises DamagedCheckpointError for a damaged file, CheckpointError for a newer one, FileError.
    """
    try:
        with named(path):
            arrays = read_archive(path, max_bytes=path.stat().st_size)
        _check_whole(path, arrays)
    except formats.NewerFormatError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (DamagedArrayError, formats.FormatError) as error:
        raise DamagedCheckpointError(f"{path}: not a readable checkpoint ({error})") from error
    return arrays


def _check_whole(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Raise DamagedArrayError or FormatError unless arrays are a checkpoint; leave only those of the state."""
    formats.check_version(arrays.get(formats.VERSION_KEY, np.array(1)).tolist(), FORMAT_VERSION)
    digest = arrays.pop(_DIGEST, None)
    if digest is not None and str(digest) != digest_of_arrays(arrays):
        raise DamagedArrayError("its content does not fit its SHA-256")
    arrays.pop(formats.VERSION_KEY, None)
    for name, (shape, kinds) in _PROGRESS.items():
        if name not in arrays:
            raise DamagedArrayError(f"holds no {name}")
        if arrays[name].shape != shape or arrays[name].dtype.kind not in kinds:
            raise DamagedArrayError(f"{name} is no such value")
    if int(arrays["images_shown"]) != images_shown_at_checkpoint(path):
        raise DamagedArrayError(f"it was made after {arrays['images_shown']} images, another number than in its name")


def assign_variables(path: Path, arrays: Mapping[str, NDArray[Any]], variables: Mapping[str, "tf.Variable"]) -> None:
    """Give each variable the array of its name. Raises CheckpointError, before any change, when one does not fit."""
    for name, variable in variables.items():
        if name not in arrays:
            raise CheckpointError(f"{path}: holds no {name}; it belongs to another network")
        found, expected = arrays[name].shape, tuple(variable.shape)
        if found != expected:
            raise CheckpointError(f"{path}: {name} has shape {found}, not {expected}; another network")
        if arrays[name].dtype != variable.dtype.as_numpy_dtype:
            raise CheckpointError(f"{path}: {name} has type {arrays[name].dtype}, not {variable.dtype.name}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
