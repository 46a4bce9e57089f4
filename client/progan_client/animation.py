"""Save a walk through latent space as one animated file."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from progan_client.checks import checked_integer, checked_number
from progan_client.errors import ArgumentError
from progan_client.images import DEFAULT_QUALITY, Frame, check_sides, enlarged, require_directory, to_image
from progan_client.video import require_video, save_video

ANIMATION_FORMATS = (".webp", ".gif", ".mp4")
_UNITS_MS = {".webp": 1, ".gif": 10}  # of the durations of frames


def save_animation(
    frames: Iterable[Frame], path: Path | str, *, fps: float = 24.0, scale: int = 1, quality: int = DEFAULT_QUALITY
) -> int:
    """Write frames to an animated WebP or GIF that loops forever, or to an MP4, and return the number of frames.

    `path`     the suffix selects the format: .webp, .gif or .mp4. The last needs the extra `mp4`.
    `fps`      frames per second, above 0 and at most 100.
    `scale`    draw each pixel as a square of scale x scale pixels.
    `quality`  1 to 100, for WebP. A GIF has 256 colours per frame and no quality, an MP4 is nearly without loss.

    Raise ArgumentError for another suffix, no frames or a number out of range, FileNotFoundError if the directory does
    not exist, another OSError if the file cannot be written. If the iterator of the frames raises an error, no file is
    written.
    """
    suffix = animation_suffix(path)
    rule = "must be a number above 0 and at most 100"
    if not 0 < checked_number("fps", rule, fps) <= 100:
        raise ArgumentError("fps", rule, fps)
    quality = checked_integer("quality", quality, 1, 100)
    scale = checked_integer("scale", scale, 1)
    require_directory(path)
    pictures = [to_image(enlarged(frame.pixels, scale)) for frame in frames]
    if not pictures:
        raise ArgumentError("frames", "must be at least one", 0)
    check_sides(suffix, pictures[0].size)
    if suffix == ".mp4":
        save_video(pictures, path, fps)
    else:
        pictures[0].save(
            path,
            format=suffix[1:],
            save_all=True,
            append_images=pictures[1:],
            duration=_durations_ms(len(pictures), fps, _UNITS_MS[suffix]),
            loop=0,
            quality=quality,
        )
    return len(pictures)


def animation_suffix(path: Path | str) -> str:
    """Return the suffix of a path in small letters. Raise ArgumentError if no animation can be written for it."""
    suffix = Path(path).suffix.lower()
    if suffix not in ANIMATION_FORMATS:
        *first, last = ANIMATION_FORMATS
        raise ArgumentError("suffix", f"must be {', '.join(first)} or {last}", suffix)
    if suffix == ".mp4":
        require_video()
    return suffix


def _durations_ms(count: int, fps: float, unit_ms: int) -> list[int]:
    """Return the duration of each frame in whole units, without drift: 24 fps is 42, 41, 42, ... ms."""
    ends = [round(index * 1000 / fps / unit_ms) * unit_ms for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]
