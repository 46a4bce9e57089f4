"""Save a walk through latent space as one animated file."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from progan_client.errors import ArgumentError
from progan_client.images import DEFAULT_QUALITY, Frame, enlarged, require_directory, to_image

# Suffix -> (format name in Pillow, unit of its frame durations in milliseconds).
ANIMATION_FORMATS = {".webp": ("WEBP", 1), ".gif": ("GIF", 10)}


def save_animation(
    frames: Iterable[Frame], path: Path | str, *, fps: float = 24.0, scale: int = 1, quality: int = DEFAULT_QUALITY
) -> int:
    """Write frames to an animated WebP or GIF that loops forever, and return the number of frames.

    `path`     the suffix selects the format: .webp or .gif.
    `fps`      frames per second, above 0 and at most 100.
    `scale`    draw each pixel as a square of scale x scale pixels.
    `quality`  1 to 100, for WebP. A GIF has 256 colours per frame and no quality.

    Raise ArgumentError for another suffix, no frames or a number out of range, FileNotFoundError if the directory does
    not exist, another OSError if the file cannot be written. If the iterator of the frames raises an error, no file is
    written.
    """
    unit_ms = animation_format(path)[1]
    if not 0 < fps <= 100:
        raise ArgumentError("fps", "must be above 0 and at most 100", fps)
    if not 1 <= quality <= 100:
        raise ArgumentError("quality", "must be 1 to 100", quality)
    require_directory(path)
    pictures = [to_image(enlarged(frame.pixels, scale)) for frame in frames]
    if not pictures:
        raise ArgumentError("frames", "must be at least one", 0)
    pictures[0].save(
        path,
        format=animation_format(path)[0],
        save_all=True,
        append_images=pictures[1:],
        duration=_durations_ms(len(pictures), fps, unit_ms),
        loop=0,
        quality=quality,
    )
    return len(pictures)


def animation_format(path: Path | str) -> tuple[str, int]:
    """Return the entry of `ANIMATION_FORMATS` for a path. Raise ArgumentError for another suffix."""
    suffix = Path(path).suffix.lower()
    if suffix not in ANIMATION_FORMATS:
        raise ArgumentError("suffix", f"must be {' or '.join(ANIMATION_FORMATS)}", suffix)
    return ANIMATION_FORMATS[suffix]


def _durations_ms(count: int, fps: float, unit_ms: int) -> list[int]:
    """Return the duration of each frame in whole units, without drift: 24 fps is 42, 41, 42, ... ms."""
    ends = [round(index * 1000 / fps / unit_ms) * unit_ms for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]
