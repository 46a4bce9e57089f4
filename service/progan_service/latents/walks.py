"""Walks: paths through latent space from key frame to key frame, and where on them the frames are. Pure.

A place on a path is a segment and a fraction of it: segment 2, fraction 0.5 is halfway from key frame 2 to key frame 3.
After the last key frame a path returns to the first.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

WalkPath = Literal["linear", "spherical", "smooth"]
Rows = NDArray[np.float64]

_NEARLY_PARALLEL = 1e-6  # directions count as parallel if the sine of their angle is below this
_NEARLY_OPPOSITE = 0.1  # of the radius: a spline that comes so close to the centre has no direction there
_LOOKS = 32  # places a segment at which a spline is checked
_PROBES = 16, 64  # the fewest and the most images a segment by which an even pace is measured


class OppositeLatentsError(ValueError):
    """Two neighbouring key frames point in opposite directions, so no path on the sphere joins them."""

    def __init__(self, key_frame: int) -> None:
        super().__init__(f"key frame {key_frame} and the next one point in opposite directions")
        self.key_frame = key_frame


class Places(NamedTuple):
    """Places on a path: segments int64 [N], and fractions of them [N], 0 to below 1."""

    segments: NDArray[np.int64]
    fractions: Rows


class Pace(Protocol):
    """Where the frames of a walk are."""

    def places(self, start: int, stop: int) -> Places:
        """Return the places of the frames start ... stop - 1."""
        ...


@dataclass(frozen=True)
class UniformPace:
    """The same number of frames between all key frames. Frame k * (frames_between + 1) is key frame k itself."""

    frames_between: int

    def places(self, start: int, stop: int) -> Places:
        segments, steps = np.divmod(np.arange(start, stop), self.frames_between + 1)
        return Places(segments, steps / (self.frames_between + 1))


@dataclass(frozen=True, eq=False)
class EvenPace:
    """The same change of the image from each frame to the next, as measured by probes at a uniform pace.

    changed           how much the image has changed up to each probe [M], from 0 on, always rising
    probes_a_segment  how many probes have their place in a segment
    steps             how many steps the frames make from the first probe to the last
    """

    changed: Rows
    probes_a_segment: int
    steps: int

    def places(self, start: int, stop: int) -> Places:
        wanted = np.arange(start, stop) * (self.changed[-1] / self.steps)
        positions = np.interp(wanted, self.changed, np.arange(len(self.changed)) / self.probes_a_segment)
        segments, fractions = np.divmod(positions, 1.0)
        return Places(segments.astype(np.int64), fractions)


def walk_length(key_frames: int, frames_between: int, loop: bool) -> int:
    """Return the number of frames of a walk over `key_frames` key frames; a loop ends where it began."""
    return key_frames * (frames_between + 1) if loop else key_frames + (key_frames - 1) * frames_between


def walk(keys: NDArray[np.float32], places: Places, path: WalkPath, *, loop: bool) -> NDArray[np.float32]:
    """Return the latents [N, L] at places of the path over the key frames [K, L].

    linear      straight from key frame to key frame
    spherical   along the great circle between two directions; the length is interpolated linearly
    smooth      along a Catmull-Rom spline through the directions, projected to the sphere; the length as in spherical.
                It turns nowhere at once. With `loop` it is closed, else its ends are straight.
    Call `check_path` first.
    """
    start, end = keys[places.segments % len(keys)], keys[(places.segments + 1) % len(keys)]
    a, b, t = start.astype(np.float64), end.astype(np.float64), places.fractions[:, None]
    match path:
        case "linear":
            between = _lerp(a, b, t)
        case "spherical":
            between = _slerp(a, b, t)
        case "smooth":
            between = _unit(_spline(_unit(keys.astype(np.float64)), places, loop)) * _lerp(_length(a), _length(b), t)
    return np.where(t == 0, start, between).astype(np.float32)


def check_path(keys: NDArray[np.float32], path: WalkPath, *, loop: bool) -> None:
    """Raise OppositeLatentsError if there is no such path over the key frames [K, L]."""
    if path == "linear":
        return
    directions = _unit(keys.astype(np.float64))
    if path == "spherical":
        opposite = np.linalg.norm(directions + np.roll(directions, -1, axis=0), axis=-1) < _NEARLY_PARALLEL
    else:
        segments = np.arange(len(keys))
        looks = (Places(segments, np.full(len(keys), look / _LOOKS)) for look in range(1, _LOOKS))
        nearest = np.min([_length(_spline(directions, places, loop))[:, 0] for places in looks], axis=0)
        opposite = nearest < _NEARLY_OPPOSITE
    if not loop:
        opposite[-1] = False
    if opposite.any():
        raise OppositeLatentsError(int(np.argmax(opposite)))


def probes_a_segment(frames_between: int) -> int:
    """Return at how many places of each segment the images are compared, to find an even pace for a walk."""
    fewest, most = _PROBES
    return min(max(frames_between + 1, fewest), most)


def even_pace(changes: Rows, probes_a_segment: int, frames: int, *, loop: bool) -> EvenPace:
    """Return the even pace for so many frames, by how much the image changes from each probe to the next [M].

    The probes have a uniform pace. In a loop the last change is that from the last probe to the first.
    """
    smallest = changes.max() * 1e-9 or 1.0  # where nothing changes, the pace is uniform
    changed = np.concatenate([[0.0], np.cumsum(np.maximum(changes, smallest))])
    return EvenPace(changed, probes_a_segment, frames if loop else frames - 1)


def _lerp(a: Rows, b: Rows, t: Rows) -> Rows:
    return a + (b - a) * t


def _slerp(a: Rows, b: Rows, t: Rows) -> Rows:
    """Interpolate the direction along the great circle, and the length linearly."""
    ua, ub = _unit(a), _unit(b)
    angle = 2.0 * np.arctan2(_length(ua - ub), _length(ua + ub))
    sine = np.sin(angle)
    parallel = sine < _NEARLY_PARALLEL
    divisor = np.where(parallel, 1.0, sine)
    circle = (np.sin((1.0 - t) * angle) * ua + np.sin(t * angle) * ub) / divisor
    return np.where(parallel, _lerp(ua, ub, t), circle) * _lerp(_length(a), _length(b), t)


def _spline(points: Rows, places: Places, loop: bool) -> Rows:
    """Return the points [N, L] at places of the Catmull-Rom spline through points [K, L]."""
    following, preceding = np.roll(points, -1, axis=0), np.roll(points, 1, axis=0)
    tangents = (following - preceding) / 2.0
    if not loop:
        tangents[0], tangents[-1] = points[1] - points[0], points[-1] - points[-2]
    here, there, t = places.segments % len(points), (places.segments + 1) % len(points), places.fractions[:, None]
    outward = t * (1.0 - t) * ((1.0 - t) * tangents[here] - t * tangents[there])
    return _lerp(points[here], points[there], t * t * (3.0 - 2.0 * t)) + outward


def _length(rows: Rows) -> Rows:
    """Return the lengths [N, 1] of rows [N, L]."""
    return np.asarray(np.linalg.norm(rows, axis=-1, keepdims=True))


def _unit(rows: Rows) -> Rows:
    unit: Rows = rows / _length(rows)
    return unit
