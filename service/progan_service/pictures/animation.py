"""Pictures one after the other, as an animated WebP or GIF that loops forever, or as an MP4."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from PIL import Image

from progan_service.errors import ConfigError
from progan_service.host.files import replaced
from progan_service.pictures.grid import check_sides, require_suffix
from progan_service.pictures.video import require_video, save_video

FORMATS = {".webp": "WEBP", ".gif": "GIF", ".mp4": "MP4"}
_UNITS_MS = {"WEBP": 1, "GIF": 10}  # of the durations of frames
_QUALITY = 90  # of WebP


def save_animation(frames: Sequence[Image.Image], path: Path, *, fps: float, last_s: float = 0.0) -> None:
    """Write frames of one size in the format of the suffix, in place of an earlier one. Raises ConfigError, FileError.

    fps      frames per second
    last_s   how much longer than the others the last frame is shown, in seconds
    """
    file_format = animation_format(path)
    check_sides(path, file_format, frames[0].size)
    with replaced(path) as partial:
        if file_format == "MP4":
            save_video([*frames, *[frames[-1]] * round(last_s * fps)], partial, fps)
            return
        durations = _durations_ms(len(frames), fps, _UNITS_MS[file_format])
        durations[-1] += round(last_s * 100) * 10
        frames[0].save(
            partial,
            format=file_format,
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            quality=_QUALITY,
        )


def animation_format(path: Path) -> str:
    """Return the format of a file by its suffix. Raises ConfigError for a suffix that cannot be written."""
    file_format = require_suffix(path, FORMATS)
    if file_format == "MP4":
        require_video()
    return file_format


def check_fps(fps: float) -> None:
    """Raise ConfigError for a number of frames per second that no player keeps."""
    if not 0 < fps <= 100:
        raise ConfigError(f"--fps is {fps:g}: must be above 0, and 100 at most")


def _durations_ms(count: int, fps: float, unit_ms: int) -> list[int]:
    """Return the duration of each frame in whole units, without drift: 24 fps is 42, 41, 42, ... ms."""
    ends = [round(index * 1000 / fps / unit_ms) * unit_ms for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]
