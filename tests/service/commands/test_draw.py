"""`progan grid` and `progan walk` of a real run, a snapshot of it and a version."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan_service.commands.draw import _labels
from progan_service.errors import ConfigError
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.sources.fakes import Fakes

Progan = Callable[..., Any]


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path)).astype(int)


def test_a_grid_shows_the_images_of_seeds_at_a_size_that_is_easy_to_see(
    progan: Progan, finished_run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "grid.png"
    ended = progan("grid", finished_run, "-o", output, "--seed", 5, "--count", 3, "--columns", 2)
    assert ended == (0, f"{output}: 3 images of {finished_run}, 128x128 pixels\n", "")
    fakes = Fakes.open(finished_run)
    latents = latents_from_seeds(seed_range(5, 3), fakes.latent_size)
    [images] = fakes.draw(latents, np.zeros((3, 0), np.float32))
    cells = pixels(output)[::8, ::8].reshape(2, 8, 2, 8, 3).swapaxes(1, 2).reshape(4, 8, 8, 3)
    np.testing.assert_array_equal(cells[:3], images)
    assert cells[3].min() == 255


def test_a_snapshot_and_a_run_give_the_same_picture(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    snapshot = finished_run / "snapshots" / "images-000000224.safetensors"
    for name, source in {"run.png": finished_run, "snapshot.png": snapshot}.items():
        assert progan("grid", source, "-o", tmp_path / name, "--seeds", "1,1337", "--scale", 2).code == 0
    assert pixels(tmp_path / "run.png").shape == (16, 32, 3)
    np.testing.assert_array_equal(pixels(tmp_path / "run.png"), pixels(tmp_path / "snapshot.png"))


def test_a_walk_goes_from_seed_to_seed(progan: Progan, tiny_store: Path, tmp_path: Path) -> None:
    version, output = tiny_store / "tiny" / "1", tmp_path / "walk.gif"
    ended = progan("walk", version, "-o", output, "--seeds", "1,2", "--frames", 3, "--fps", 10, "--scale", 4)
    assert ended == (0, f"{output}: 5 frames of {version}, 32x32 pixels, 0.5 s\n", "")
    assert progan("grid", version, "-o", tmp_path / "keys.png", "--seeds", "1,2", "--scale", 4).code == 0
    keys = pixels(tmp_path / "keys.png")
    with Image.open(output) as animation:
        for frame, key in {0: keys[:, :32], 4: keys[:, 32:]}.items():
            animation.seek(frame)
            assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - key).mean() < 8  # of 256 colours


def test_a_walk_with_an_even_pace_changes_as_much_from_frame_to_frame(
    progan: Progan, tiny_store: Path, tmp_path: Path
) -> None:
    def steps(*options: str) -> list[float]:
        output = tmp_path / "walk.webp"
        walk = ("walk", tiny_store / "tiny" / "1", "-o", output, "--seeds", "1,2,7", "--loop", "--frames", 9)
        assert progan(*walk, *options).code == 0
        frames = []
        with Image.open(output) as animation:
            for frame in range(animation.n_frames):
                animation.seek(frame)
                frames.append(np.asarray(animation.convert("RGB"), float))
        return [float(np.abs(after - before).mean()) for before, after in pairwise([*frames, frames[0]])]

    uniform, even = steps(), steps("--even")
    assert len(even) == len(uniform) == 30
    assert max(even) / min(even) < 2 < max(uniform) / min(uniform)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("grid run -o g.svg", "--output is g.svg: must end in .png, .jpg, .jpeg or .webp"),
        ("grid run -o g.png --count 0", "--count is 0: must be 1 or more"),
        ("grid run -o g.png --count 10001", "--count is 10001: a picture has 10000 images at most"),
        ("grid run -o g.png --columns -1", "--columns is -1: must be 1 or more"),
        (
            "grid run -o g.png --seeds 1,2 --count 2",
            "--count is for --seed: with --seeds there are as many images as seeds",
        ),
        ("walk run -o w.avi", "--output is w.avi: must end in .webp, .gif or .mp4"),
        ("walk run -o w.gif --fps 0", "--fps is 0: must be above 0, and 100 at most"),
        ("walk run -o w.gif --seeds 1", "--seeds has 1 seed: a walk needs two or more"),
        ("walk run -o w.gif --frames -1", "--frames is -1: must be 0 or more"),
        (
            "walk run -o w.gif --frames 9999",
            "--frames is 9999: gives 40000 frames, and an animation has 10000 at most",
        ),
        ("walk run -o w.gif --scale 0", "--scale is 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_generator_is_read(progan: Progan, line: str, sentence: str) -> None:
    assert progan(*line.split()) == (78, "", f"progan: {sentence}\n")


@pytest.mark.parametrize("option", ["--seed", "--seeds"])
@pytest.mark.parametrize("value", ["x", "1.5", "18446744073709551616"])
def test_what_is_no_seed_is_wrong_usage(progan: Progan, option: str, value: str) -> None:
    ended = progan("grid", "run", "-o", "g.png", option, value)
    assert ended.code == 2
    assert ended.err.endswith(f"argument {option}: must be a whole number from 0 to 2^64 - 1; got {value!r}\n")


def with_labels(kind: Any, *names: str) -> Fakes:
    return Fakes("", 8, 4, len(names), False, lambda *_: iter(()), names, kind)


def test_classes_are_drawn_in_turn_or_as_named() -> None:
    fakes = with_labels("classes", "cat", "dog")
    assert _labels(Path("run"), fakes, [], 3).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert _labels(Path("run"), fakes, ["dog"], 2).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ConfigError, match="^--label is given 2 times: run has classes, and an image has one class$"):
        _labels(Path("run"), fakes, ["cat", "dog"], 1)
    with pytest.raises(ConfigError, match="^--label is 'cow': run has no such label; its labels are cat, dog$"):
        _labels(Path("run"), fakes, ["cow"], 1)
    with pytest.raises(ConfigError, match="^--label is 'cow': run has no such label; it has no labels$"):
        _labels(Path("run"), with_labels("classes"), ["cow"], 1)


def test_any_number_of_attributes_holds() -> None:
    fakes = with_labels("attributes", "glasses", "smile", "hat")
    assert _labels(Path("run"), fakes, [], 1).tolist() == [[0, 0, 0]]
    assert _labels(Path("run"), fakes, ["hat", "glasses"], 1).tolist() == [[1, 0, 1]]
