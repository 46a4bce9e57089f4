"""The image grids of a run, one after the other."""

import re
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from progan_service.decoding.errors import PictureError
from progan_service.decoding.picture import decode_rgb
from progan_service.errors import ConfigError
from progan_service.formats import FormatError
from progan_service.host.files import content
from progan_service.training.run.directory import config_of_begun
from progan_service.training.schedule import GrowthSchedule

_WIDEST = 1280  # pixels; larger grids are reduced by a whole factor
_CAPTION_HEIGHT, _INK, _PAPER = 36, "#1f2933", "#ffffff"
_NAME = re.compile(r"fakes-(\d{9,})\.png", re.ASCII)


def frames_of(run: Path) -> list[Image.Image]:
    """Return the grids of a run by rising images shown, each with a caption, all of the size of the newest.

    Raises ConfigError for a directory that is no run, and for a run without grids; FormatError for a damaged grid.
    """
    config = config_of_begun(run)
    schedule = GrowthSchedule(config.training, config.network.resolution)
    grids = sorted(
        (int(found[1]), file) for file in (run / "grids").glob("fakes-*.png") if (found := _NAME.fullmatch(file.name))
    )
    if not grids:
        raise ConfigError(f"{run}/grids: has no images yet; they come with the first tick")
    newest = _grid(grids[-1][1])
    return [
        _captioned(_grid(file).resize(newest.size, Image.Resampling.NEAREST), _caption(schedule, images_shown))
        for images_shown, file in grids
    ]


def _grid(file: Path) -> Image.Image:
    """Return a grid, reduced if it is wide. Raises FormatError for a damaged one, ConfigError, FileError."""
    try:
        picture = decode_rgb(content(file))
    except PictureError as error:
        raise FormatError(f"{file}: {error}; remove it, and the animation is made without it") from error
    return picture.reduce(-(-picture.width // _WIDEST))


def _caption(schedule: GrowthSchedule, images_shown: int) -> str:
    return f"{images_shown / 1000:.1f} kimg   {schedule.at(max(images_shown - 1, 0)).stage}"


def _captioned(grid: Image.Image, caption: str) -> Image.Image:
    frame = Image.new("RGB", (grid.width, grid.height + _CAPTION_HEIGHT), _PAPER)
    frame.paste(grid)
    place = (8, grid.height + _CAPTION_HEIGHT // 2)
    ImageDraw.Draw(frame).text(place, caption, _INK, ImageFont.load_default(20), "lm")
    return frame
