"""How far a run is: what its directory says, read without TensorFlow."""

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from progan_service.errors import FileError
from progan_service.host.faults import named
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import images_shown_at_checkpoint, latest_checkpoint
from progan_service.training.run.directory import CONFIG_FILE, LOCK, read_run_config
from progan_service.training.schedule import GrowthSchedule
from progan_service.training.stage import Stage

State = Literal["running", "done", "stopped"]

_LOCK_REQUEST = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, process


@dataclass(frozen=True)
class RunProgress:
    """A run at its newest checkpoint.

    saved_s   the time of that checkpoint, in seconds since 1970; None before the first one
    """

    config: RunConfig
    state: State
    images_shown: int
    stage: Stage
    saved_s: float | None


def runs_in(directory: Path, unreadable: list[FileError]) -> list[Path]:
    """Return the run directories in a directory and below, in order; the directory itself if it is one.

    unreadable   gets an error for each directory below that cannot be read, such as the lost+found of a disk
    Raises FileError if the directory itself cannot be read.
    """
    with named(directory):
        if (directory / CONFIG_FILE).is_file():
            return [directory]
        inside = sorted(entry for entry in directory.iterdir() if entry.is_dir() and not entry.is_symlink())
    found = []
    for entry in inside:
        if entry.name.startswith("."):
            continue
        try:
            found += runs_in(entry, unreadable)
        except FileError as error:
            unreadable.append(error)
    return found


def progress_of(run: Path) -> RunProgress:
    """Return how far a run is. Raises ConfigError for a directory without the configuration of one."""
    config = read_run_config(run)
    newest = latest_checkpoint(run / "checkpoints")
    images_shown = images_shown_at_checkpoint(newest) if newest else 0
    done = images_shown >= config.training.total_kimg * 1000
    state: State = "running" if is_locked(run) else "done" if done else "stopped"
    stage = GrowthSchedule(config.training, config.network.resolution).at(max(images_shown - 1, 0)).stage
    return RunProgress(config, state, images_shown, stage, newest.stat().st_mtime if newest else None)


def is_locked(run: Path) -> bool:
    """Return whether a process is training the run. It only looks: a trainer that starts meanwhile gets its lock."""
    try:
        descriptor = os.open(run / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        asked = _LOCK_REQUEST.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_ = _LOCK_REQUEST.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        return bool(kind != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)
