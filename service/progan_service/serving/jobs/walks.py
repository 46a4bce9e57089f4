"""Walks as rows of a job: the frames of a path over key frames.

They raise InvalidArgument about `key_frames`, which a protocol's parser replaces by its field.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progan_service.latents.walks import (
    OppositeLatentsError,
    Pace,
    UniformPace,
    WalkPath,
    check_path,
    walk,
    walk_length,
)
from progan_service.serving.errors import InvalidArgument
from progan_service.serving.jobs.rows import Rows


@dataclass(frozen=True)
class Frames:
    """The frames of a walk. A frame has no seed, not even a key frame: it is a place on the walk.

    keys   key frames [K, L]
    pace   where on the path the frames are
    """

    count: int
    keys: NDArray[np.float32]
    path: WalkPath
    loop: bool
    frames_between: int
    pace: Pace

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return walk(self.keys, self.pace.places(start, stop), self.path, loop=self.loop)

    def seeds(self, start: int, stop: int) -> None:
        return None

    def with_between(self, frames_between: int) -> Self:
        """Return the frames of the same path, with so many between two key frames."""
        count = walk_length(len(self.keys), frames_between, self.loop)
        return replace(self, count=count, frames_between=frames_between, pace=UniformPace(frames_between))


def of_walk(keys: Rows, frames_between: int, max_key_frames: int, *, path: WalkPath, loop: bool) -> Frames:
    """Return the frames of the walk over key frames, at a uniform pace. Raise InvalidArgument."""
    if not 2 <= keys.count <= max_key_frames:
        raise InvalidArgument("key_frames", f"holds {keys.count} latents; 2 to {max_key_frames} are allowed")
    latents = keys.rows(0, keys.count)
    try:
        check_path(latents, path, loop=loop)
    except OppositeLatentsError as error:
        raise InvalidArgument("key_frames", f"{error}; a {path} path between them is undefined") from error
    count = walk_length(keys.count, frames_between, loop)
    return Frames(count, latents, path, loop, frames_between, UniformPace(frames_between))
