"""Pictures one after the other."""

from pathlib import Path

import av
import pytest
from PIL import Image

from progan_service.errors import ConfigError
from progan_service.pictures.animation import animation_format, check_fps, save_animation

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


def test_a_video_shows_its_last_frame_longer(tmp_path: Path) -> None:
    save_animation(FRAMES, tmp_path / "walk.mp4", fps=10, last_s=1.0)
    with av.open(tmp_path / "walk.mp4") as video:
        colours = ["rgb"[frame.to_ndarray(format="rgb24")[4, 4].argmax()] for frame in video.decode(video=0)]
    assert colours == ["r", "g", *"b" * 11]


def test_without_pyav_a_video_is_refused_and_the_extra_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progan_service.pictures.video.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"^.mp4 needs PyAV \(pip install 'progan-service\[mp4\]'\)"):
        animation_format(Path("walk.mp4"))


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"walk.avi: must end in .webp, .gif or .mp4$"):
        save_animation(FRAMES, tmp_path / "walk.avi", fps=10)


def test_frames_longer_than_the_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"walk\.mp4: MP4 has at most 16384 pixels a side, not 16386x1$"):
        save_animation([Image.new("L", (16_386, 1))], tmp_path / "walk.mp4", fps=10)


@pytest.mark.parametrize("fps", [0, -1, 101])
def test_a_speed_that_no_player_keeps_is_refused(fps: float) -> None:
    with pytest.raises(ConfigError, match=f"^--fps is {fps}: must be above 0, and 100 at most$"):
        check_fps(fps)
