import csv
from pathlib import Path

import numpy as np
import pytest

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making.demo import build_demo, face_attributes
from progan_service.data.making.faces import draw_face


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


def test_the_demo_is_a_labelled_dataset(tmp_path: Path) -> None:
    manifest = build_demo(tmp_path / "faces", 16, 10, 3, _silent)
    dataset = Dataset.open(tmp_path / "faces")
    assert dataset.manifest == manifest
    assert (dataset.count, dataset.resolution) == (10, 16)
    assert dataset.label_names == ("no glasses", "glasses")
    assert dataset.labels is not None
    expected = [[0, 1] if face_attributes(3, index).glasses else [1, 0] for index in range(10)]
    assert dataset.labels.tolist() == expected


def test_image_i_is_a_pure_function_of_the_seed_and_i(tmp_path: Path) -> None:
    build_demo(tmp_path / "few", 8, 3, 5, _silent)
    build_demo(tmp_path / "more", 8, 6, 5, _silent)
    few, more = Dataset.open(tmp_path / "few"), Dataset.open(tmp_path / "more")
    assert (few.images(np.arange(3), 8) == more.images(np.arange(3), 8)).all()
    assert (more.images(np.array([4]), 8)[0] == np.asarray(draw_face(face_attributes(5, 4), 8))).all()
    assert face_attributes(5, 4) != face_attributes(6, 4)


def test_all_attributes_stand_beside_the_images_in_their_order(tmp_path: Path) -> None:
    build_demo(tmp_path / "faces", 4, 5, 1, _silent)
    with (tmp_path / "faces" / "attributes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    for index, row in enumerate(rows):
        face = face_attributes(1, index)
        assert (row["glasses"], row["smile"]) == (str(int(face.glasses)), str(int(face.smile)))
        assert (row["skin"], row["hair_style"], row["hair_colour"]) == (face.skin, face.hair_style, face.hair_colour)
        assert float(row["tilt_degrees"]) == face.tilt_degrees


def test_any_attribute_may_be_the_label(tmp_path: Path) -> None:
    build_demo(tmp_path / "faces", 4, 8, 1, _silent, label="hair_style")
    dataset = Dataset.open(tmp_path / "faces")
    assert dataset.label_names == ("short", "bob", "long", "curly", "bun", "bald")
    assert dataset.labels is not None
    named = [dataset.label_names[column] for column in dataset.labels.argmax(axis=1)]
    assert named == [face_attributes(1, index).hair_style for index in range(8)]


def test_several_labels_are_attributes(tmp_path: Path) -> None:
    manifest = build_demo(tmp_path / "faces", 4, 8, 1, _silent, label="smile,glasses")
    dataset = Dataset.open(tmp_path / "faces")
    assert (manifest.label, dataset.label_names, dataset.label_kind) == (
        "smile,glasses",
        ("smile", "glasses"),
        "attributes",
    )
    faces = [face_attributes(1, index) for index in range(8)]
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [[face.smile, face.glasses] for face in faces]


def test_progress_is_told_for_each_face(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    build_demo(tmp_path / "faces", 4, 2, 0, lambda *call: calls.append(call))
    assert calls == [("Drawing", 1, 2), ("Drawing", 2, 2)]


def test_nothing_is_left_behind_by_an_interruption(tmp_path: Path) -> None:
    def interrupt(_stage: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_demo(tmp_path / "faces", 4, 3, 0, interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("resolution", "count", "seed", "label", "message"),
    [
        (10, 1, 0, "glasses", "resolution is 10: it must be a power of two"),
        (8, 0, 0, "glasses", "count is 0: a dataset holds at least one image"),
        (8, 1, -1, "glasses", r"seed is -1: it must lie in \[0, 2\^64\)"),
        (8, 1, 0, "glasses,skin", "label is 'glasses,skin': several labels must be some of glasses, smile, each once"),
        (8, 1, 0, "smile,smile", "several labels must be some of glasses, smile, each once"),
        (8, 1, 0, "mood", "label is 'mood': it must be one of glasses, smile, skin, hair_style"),
    ],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, resolution: int, count: int, seed: int, label: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        build_demo(tmp_path / "faces", resolution, count, seed, _silent, label=label)
