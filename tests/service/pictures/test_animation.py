"""Pictures one after the other."""

from pathlib import Path

import pytest
from PIL import Image

from progan_service.errors import ConfigError
from progan_service.pictures.animation import check_fps, save_animation

FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]


@pytest.mark.parametrize("name", ["walk.webp", "walk.gif"])
def test_an_animation_has_all_frames_and_loops(tmp_path: Path, name: str) -> None:
    save_animation(FRAMES, tmp_path / name, fps=10, last_s=1.0)
    durations, colours = [], []
    with Image.open(tmp_path / name) as animation:
        assert animation.info["loop"] == 0
        for frame in range(3):
            animation.seek(frame)
            animation.load()
            durations.append(animation.info["duration"])
            colours.append(max(zip(animation.convert("RGB").getpixel((4, 4)), "rgb", strict=True))[1])
    assert (durations, colours) == ([100, 100, 1100], ["r", "g", "b"])


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"walk.mp4: must end in .webp or .gif$"):
        save_animation(FRAMES, tmp_path / "walk.mp4", fps=10)


@pytest.mark.parametrize("fps", [0, -1, 101])
def test_a_speed_that_no_player_keeps_is_refused(fps: float) -> None:
    with pytest.raises(ConfigError, match=f"^--fps is {fps}: must be above 0, and 100 at most$"):
        check_fps(fps)
