"""Seeds to latents and paths between latents. Pure functions over arrays.

The algorithm of `latents_from_seeds` is part of the wire contract (`image_generator.proto`, algorithm version 1).
"""

import numpy as np
from numpy.typing import NDArray

_NEARLY_PARALLEL = 1e-6  # sine of the angle below which two directions count as one line


class OppositeLatentsError(ValueError):
    """Two neighbouring key frames point in opposite directions: no shortest great circle joins them."""

    def __init__(self, key_frame: int) -> None:
        super().__init__(f"key frame {key_frame} and the next one point in opposite directions")
        self.key_frame = key_frame


def walk_length(key_frames: int, frames_between: int, loop: bool) -> int:
    """Frames of a walk over `key_frames` key frames."""
    return key_frames * (frames_between + 1) if loop else key_frames + (key_frames - 1) * frames_between


def walk(
    keys: NDArray[np.float32], frames_between: int, first: int, count: int, *, spherical: bool
) -> NDArray[np.float32]:
    """Frames first ... first + count - 1 [count, L] of the walk over key frames [K, L], back to the first at the end.

    Frame k * (frames_between + 1) is key frame k itself. A spherical walk must have passed `check_walk`.
    """
    segment, step = np.divmod(np.arange(first, first + count), frames_between + 1)
    fraction = (step / (frames_between + 1))[:, None]
    start, end = keys[segment % len(keys)], keys[(segment + 1) % len(keys)]
    between = _slerp if spherical else _lerp
    frames = np.where(fraction == 0, start, between(start.astype(np.float64), end.astype(np.float64), fraction))
    return frames.astype(np.float32)


def check_walk(keys: NDArray[np.float32], loop: bool) -> None:
    """Raises OppositeLatentsError when a spherical walk over these key frames has no unique path."""
    directions = _unit(keys.astype(np.float64))
    following = np.roll(directions, -1, axis=0)
    opposite = np.linalg.norm(directions + following, axis=-1) < _NEARLY_PARALLEL
    if not loop:
        opposite[-1] = False
    if opposite.any():
        raise OppositeLatentsError(int(np.argmax(opposite)))


def _lerp(a: NDArray[np.float64], b: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    return a + (b - a) * t


def _slerp(a: NDArray[np.float64], b: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the great circle between the directions, length interpolated linearly."""
    ua, ub = _unit(a), _unit(b)
    angle = 2.0 * np.arctan2(
        np.linalg.norm(ua - ub, axis=-1, keepdims=True), np.linalg.norm(ua + ub, axis=-1, keepdims=True)
    )
    sine = np.sin(angle)
    parallel = sine < _NEARLY_PARALLEL
    divisor = np.where(parallel, 1.0, sine)
    circle = (np.sin((1.0 - t) * angle) * ua + np.sin(t * angle) * ub) / divisor
    length = _lerp(np.linalg.norm(a, axis=-1, keepdims=True), np.linalg.norm(b, axis=-1, keepdims=True), t)
    return np.where(parallel, _lerp(ua, ub, t), circle) * length


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit
