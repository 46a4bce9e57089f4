"""Write images to the path of `--output`: one picture, one animation, or numbered files."""

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from progan_client.animation import ANIMATION_FORMATS, animation_suffix, save_animation
from progan_client.command.terminal import say
from progan_client.errors import ArgumentError
from progan_client.images import (
    DEFAULT_QUALITY,
    ENCODING_OF_SUFFIX,
    Encoding,
    Frame,
    GeneratedImages,
    Pixels,
    encoded,
    encoding_of,
    enlarged,
    image_grid,
    numbered,
    to_image,
)
from progan_client.models import ServedModel


@dataclass(frozen=True)
class Output:
    """A path that can be written, and how images are written to it.

    `path`     the file; with `each`, a number is added to its name.
    `each`     whether each image has a file of its own.
    `quality`  1 to 100, for JPEG and WebP.
    `scale`    draw each pixel as a square of scale x scale pixels.
    `edited`   whether images are more than their seeds, which are reported.
    """

    path: Path
    each: bool
    quality: int
    scale: int
    edited: bool = False

    def wire_format(self, *, unchanged: bool) -> tuple[Encoding, int]:
        """Return the encoding and quality to request: those of the files if they are written unchanged, else raw."""
        encoding = encoding_of(self.path.suffix) if unchanged and self.scale == 1 else "raw"
        return encoding, 0 if encoding in ("raw", "png") else self.quality

    def write_each(self, parts: Iterable[GeneratedImages]) -> None:
        """Write each image to a numbered file as soon as it arrives. Report what was written, even after an error."""
        count = 0
        seeds: list[int] = []
        try:
            for part in parts:
                seeds += part.seeds or ()
                for index in range(len(part)):
                    write(numbered(self.path, count), self._file(part, index))
                    count += 1
        finally:
            if count:
                self._report_each(count, seeds[:count], part)

    def _report_each(self, count: int, seeds: list[int], last: GeneratedImages) -> None:
        files = f"{numbered(self.path, 0)}{f' to {numbered(self.path, count - 1).name}' if count > 1 else ''}"
        size = f"{last.shape[2] * self.scale}x{last.shape[1] * self.scale}"
        _report(files, f"{_count(count)}{self._of(seeds)}, {size} pixels", last.model)

    def write_grid(self, parts: Sequence[GeneratedImages], columns: int | None) -> None:
        """Write all images to one picture. A single image that arrived as a file is written unchanged."""
        pixels = np.concatenate([part.pixels for part in parts])
        picture = image_grid(pixels, columns, self.scale)
        file = parts[0].files[0] if parts[0].files else encoded(picture, self.path.suffix, self.quality)
        write(self.path, file)
        seeds = [seed for part in parts for seed in part.seeds or ()]
        size = f"{picture.width}x{picture.height}"
        _report(self.path, f"{_count(len(pixels))}{self._of(seeds)}, {size} pixels", parts[0].model)

    def write_beside(self, photograph: Pixels, found: GeneratedImages, edited: GeneratedImages) -> None:
        """Write a photograph [H, W, C] of the size of the images, the image that was found, and the edited one."""
        picture = image_grid(np.stack([photograph, found.pixels[0], edited.pixels[0]]), 3, self.scale)
        write(self.path, encoded(picture, self.path.suffix, self.quality))
        size = f"{picture.width}x{picture.height}"
        _report(self.path, f"photograph, image found, image edited, {size} pixels", edited.model)

    def write_animation(self, frames: Sequence[Frame], fps: float) -> None:
        """Write all frames to one animation."""
        with _named(self.path):
            save_animation(frames, self.path, fps=fps, scale=self.scale, quality=self.quality)
        height, width, _ = frames[0].pixels.shape
        size = f"{width * self.scale}x{height * self.scale}"
        duration = f"{len(frames) / fps:.3g} s"
        _report(self.path, f"{len(frames)} frames of {size} pixels, {duration}", frames[0].images.model)

    def _of(self, seeds: list[int]) -> str:
        return _seeds(seeds) + (", edited" if self.edited else "")

    def _file(self, part: GeneratedImages, index: int) -> bytes:
        if self.scale == 1:
            return part.file(index, self.path.suffix, quality=self.quality)
        return encoded(to_image(enlarged(part.pixels[index], self.scale)), self.path.suffix, self.quality)


def checked_output(
    path: str,
    *,
    stem: str,
    each: bool,
    file_format: str | None,
    quality: int | None,
    scale: int,
    animated: bool = False,
) -> Output:
    """Check `--output` and its options before the call, so that no images are made in vain.

    A directory is created. `stem` begins the names of the files in it. Raise OSError if the path cannot be written.
    """
    file = Path(path)
    if path.endswith(("/", os.sep)) or file.is_dir():
        file.mkdir(parents=True, exist_ok=True)
        file, each = file / f"{stem}.{file_format or 'png'}", True
    elif file_format is not None:
        raise ArgumentError("--format", "needs -o DIR/; the suffix of a file selects its format", file_format)
    suffixes = ANIMATION_FORMATS if animated and not each else ENCODING_OF_SUFFIX
    checked_suffix(file, suffixes, f" for {'an animation' if animated else 'a picture'}, or in / for a directory")
    if animated and not each:
        animation_suffix(file)
    check_writable(numbered(file, 0) if each else file)
    return Output(file, each, _checked_quality(quality, file), scale)


def checked_suffix(path: Path, suffixes: Collection[str], otherwise: str = "", option: str = "--output") -> None:
    """Raise ArgumentError unless the name of the file ends in one of the suffixes, in small or large letters."""
    if path.suffix.lower() not in suffixes:
        *first, last = suffixes
        known = f"{', '.join(first)} or {last}" if first else last
        raise ArgumentError(option, f"must end in {known}{otherwise}", str(path))


def check_writable(path: Path) -> None:
    """Raise OSError if the file cannot be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such directory", str(path.parent))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "no permission to write", str(path))


def write(path: Path, content: bytes) -> None:
    """Write a file. Raise OSError that names it."""
    with _named(path):
        path.write_bytes(content)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in an OSError of the block: that of a full disk names none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _checked_quality(quality: int | None, path: Path) -> int:
    if quality is None:
        return DEFAULT_QUALITY
    if path.suffix.lower() in (".png", ".gif", ".mp4"):
        raise ArgumentError("--quality", "is for JPEG and WebP", quality)
    return quality


def _report(path: Path | str, content: str, model: ServedModel) -> None:
    say(f"{path}: {content}, {model.name} version {model.version}")


def _count(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _seeds(seeds: list[int]) -> str:
    """[5] -> " of seed 5", [5, 6, 7] -> " of seeds 5 to 7", [5, 9, 9] -> " of seeds 5,9", [] -> ""."""
    seeds = list(dict.fromkeys(seeds))
    if not seeds:
        return ""
    if len(seeds) == 1:
        return f" of seed {seeds[0]}"
    if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f" of seeds {seeds[0]} to {seeds[-1]}"
    return f" of seeds {','.join(str(seed) for seed in seeds)}"
