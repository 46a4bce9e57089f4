"""Walks: paths through latent space from one key frame to the next. Pure functions over arrays."""

import numpy as np
from numpy.typing import NDArray

_NEARLY_PARALLEL = 1e-6  # directions count as parallel if the sine of their angle is below this


class OppositeLatentsError(ValueError):
    """Two neighbouring key frames point in opposite directions, so no shortest great circle joins them."""

    def __init__(self, key_frame: int) -> None:
        super().__init__(f"key frame {key_frame} and the next one point in opposite directions")
        self.key_frame = key_frame


def walk_length(key_frames: int, frames_between: int, loop: bool) -> int:
    """Return the number of frames of a walk over `key_frames` key frames; a loop ends where it began."""
    return key_frames * (frames_between + 1) if loop else key_frames + (key_frames - 1) * frames_between


def walk(
    keys: NDArray[np.float32], frames_between: int, first: int, count: int, *, spherical: bool
) -> NDArray[np.float32]:
    """Return the frames first ... first + count - 1 of a walk over the key frames [K, L], as latents [count, L].

    Frame k * (frames_between + 1) is key frame k itself. After the last key frame the walk returns to the first.
    Call `check_walk` before a spherical walk.
    """
    segment, step = np.divmod(np.arange(first, first + count), frames_between + 1)
    fraction = (step / (frames_between + 1))[:, None]
    start, end = keys[segment % len(keys)], keys[(segment + 1) % len(keys)]
    between = _slerp if spherical else _lerp
    frames = np.where(fraction == 0, start, between(start.astype(np.float64), end.astype(np.float64), fraction))
    return frames.astype(np.float32)


def check_walk(keys: NDArray[np.float32], loop: bool) -> None:
    """Raise OppositeLatentsError if a spherical walk over these key frames [K, L] has no unique path."""
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
    """Interpolate the direction along the great circle, and the length linearly."""
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
