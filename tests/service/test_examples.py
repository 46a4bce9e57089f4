"""The examples of the service run as they stand."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from progan_service.data.making.faces import FaceAttributes, draw_face

EXAMPLES = Path(__file__).parents[2] / "service" / "examples"


def test_a_tiny_network_is_trained_and_served(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "train_and_serve.py", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(f"{tmp_path / 'face.png'}: the image of seed 1\n")
    with Image.open(tmp_path / "face.png") as face:
        assert (face.mode, face.size) == ("RGB", (8, 8))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


def test_what_lies_on_white_is_scored_by_size_colour_and_shape(example: Callable[[str], ModuleType]) -> None:
    image = np.full((3, 64, 64, 3), 255, np.uint8)
    image[0, 16:48, 16:48] = (200, 40, 60)  # a red square on a quarter of the image
    image[1, 24:40, 16:48] = (220, 200, 20)  # a yellow beam, twice as wide as high; the third image is empty
    scores = example("fruit_scores").scores(image)
    assert {name: [round(float(value), 2) for value in values] for name, values in scores.items()} == {
        "size": [0.25, 0.12, 0.0],
        "brightness": [100.0, 146.67, 0.0],
        "redness": [150.0, 110.0, 0.0],
        "aspect": [0.0, 0.69, 0.0],
    }


def test_attributes_of_drawn_faces_are_recognised(
    example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    face_scores = example("face_scores")
    monkeypatch.setattr(face_scores, "DRAWN", 2400)  # of 6000; the more, the better
    rng = np.random.default_rng(9)
    faces = [FaceAttributes.random(rng) for _ in range(200)]
    found = face_scores.scores(np.stack([np.asarray(draw_face(face, 64)) for face in faces]))
    assert list(found) == ["glasses", "smile", "long-hair", "dark-hair", "dark-skin", "tilt"]
    for name, scores in found.items():
        assert np.corrcoef(scores, [face_scores.attributes(face)[name] for face in faces])[0, 1] > 0.9, name
    short = np.array([face_scores.attributes(face)["long-hair"] == 0.3 for face in faces])
    light = np.array([face_scores.attributes(face)["dark-hair"] == 0.5 for face in faces])
    for name, still in {"long-hair": short, "dark-hair": light}.items():
        assert found[name][still].std() < 0.1 * found[name].std(), f"{name} stands still where nobody sees any"
