"""Labels from folders, StyleGAN's dataset.json and webdataset's .cls files; and what looks like labels."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from progan_service.data.errors import DatasetError
from progan_service.data.making.labels.labels import Labels
from progan_service.data.making.labels.read import Others, labels_in_sight, open_labels


def read_labels(asked: str, pictures: list[str], others: Others) -> Labels:
    return open_labels(asked, others).of(pictures)


def classes(labels: Labels) -> list[str]:
    assert labels.kind == "classes"
    assert (labels.values.sum(axis=1) == 1).all()
    return [labels.names[column] for column in labels.values.argmax(axis=1)]


# Folders


@pytest.mark.parametrize("around", ["", "photos/", "a/b/"])
def test_the_first_folder_is_the_class(around: str) -> None:
    pictures = [around + name for name in ("dog/1.png", "cat/1.png", "cat/tabby/2.png")]
    labels = read_labels("folders", pictures, {})
    assert labels.names == ("cat", "dog")
    assert classes(labels) == ["dog", "cat", "cat"]


def test_numbered_folders_are_sorted_as_numbers() -> None:
    assert read_labels("folders", ["10/1.png", "9/1.png"], {}).names == ("9", "10")


def test_pictures_in_no_folder_have_no_class() -> None:
    with pytest.raises(DatasetError) as refused:
        read_labels("folders", ["cat/1.png", "2.png", "3.png"], {})
    assert str(refused.value).splitlines() == [
        "the folders: cannot be used as labels:",
        "  pictures in no folder of their own (2):",
        "    2.png",
        "    3.png",
    ]


# StyleGAN


def of_json(document: Any, pictures: list[str]) -> Labels:
    return read_labels("dataset.json", pictures, {"dataset.json": lambda: json.dumps(document).encode()})


def test_whole_numbers_are_classes_by_their_numbers() -> None:
    pictures = ["00000/img0.png", "00000/img1.png", "00001/img2.png"]
    labels = of_json({"labels": [[name, number] for name, number in zip(pictures, (3, 10, 3), strict=True)]}, pictures)
    assert labels.names == ("3", "10")
    assert classes(labels) == ["3", "10", "3"]


def test_lists_are_attributes_by_their_columns() -> None:
    labels = of_json({"labels": [["a.png", [0, 1, 1]], ["b.png", [1.0, 0.0, 1.0]]]}, ["b.png", "a.png"])
    assert (labels.kind, labels.names) == ("attributes", ("0", "1", "2"))
    assert labels.values.tolist() == [[1, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds no labels"),
        ('{"labels": null}', "holds no labels"),
        ('{"format_version": 1, "label_names": ["a"]}', "holds no labels"),  # a dataset.json of progan
        ('{"labels": [["a.png"]]}', "entry 1 of its labels is no name and label"),
        ('{"labels": [["a.png", 0]]}', "pictures without a label (1):\n    b.png"),
        ('{"labels": [["a.png", 0], ["b.png", 1], ["c.png", 1]]}', "picture is not there (1):\n    entry 3: c.png"),
        ('{"labels": [["a.png", -1], ["b.png", NaN]]}', "number from 0 on (2):\n    a.png: -1\n    b.png: nan"),
        ('{"labels": [["a.png", true], ["b.png", "cat"]]}', "number from 0 on (2):\n    a.png: True\n    b.png: 'cat'"),
        ('{"labels": [["a.png", [0, 1]], ["b.png", [0, NaN]]]}', "zeros and ones (1):\n    b.png: [0, nan]"),
        ('{"labels": [["a.png", [0, 1]], ["b.png", [0]]]}', "no list of 2 zeros and ones (1):\n    b.png: [0]"),
        ('{"labels": [["a.png", [0, 1]], ["b.png", 1]]}', "no list of 2 zeros and ones (1):\n    b.png: 1"),
    ],
)
def test_what_is_no_labels_of_stylegan_is_refused(content: str, says: str) -> None:
    with pytest.raises(DatasetError) as refused:
        read_labels("dataset.json", ["a.png", "b.png"], {"dataset.json": content.encode})
    assert str(refused.value).startswith("dataset.json: ")
    assert says in str(refused.value)


# webdataset


def test_a_cls_file_has_the_class_of_the_picture_beside_it() -> None:
    others = {"s/0.cls": b"7\n", "s/1.cls": b"12", "t/0.cls": b"7", "t/0.json": b"{}"}
    labels = read_labels("cls", ["s/0.png", "t/0.rgb.jpg", "s/1.png"], reading(others))
    assert labels.names == ("7", "12")
    assert classes(labels) == ["7", "7", "12"]


def test_cls_files_and_pictures_that_do_not_fit_are_named() -> None:
    others = {"0.cls": b"7", "2.cls": b"7", "3.cls": b" \n", "4.cls": b"\xff"}
    with pytest.raises(DatasetError) as refused:
        read_labels("cls", ["0.png", "1.png", "3.png", "4.png"], reading(others))
    assert str(refused.value).splitlines() == [
        "the .cls files: cannot be used as labels:",
        "  files without a picture (1):",
        "    2.cls",
        "  files that are no text (1):",
        "    4.cls",
        "  pictures without a label (2):",
        "    1.png",
        "    3.png",
    ]


def reading(contents: dict[str, bytes]) -> dict[str, Any]:
    return {name: partial(bytes, content) for name, content in contents.items()}


# Which one is meant


def test_a_file_is_found_at_its_path_and_then_in_the_source(tmp_path: Path) -> None:
    table = tmp_path / "labels.CSV"
    table.write_text("file,kind\na.png,x\nb.png,y\n")
    assert read_labels(str(table), ["a.png", "b.png"], {}).names == ("x", "y")
    with pytest.raises(DatasetError, match=r"^labels: no file labels.csv, neither here nor in the source$"):
        read_labels("labels.csv", ["a.png", "b.png"], {})


def test_other_labels_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"^labels are 'names.xlsx': must be folders, cls, or a .csv, .txt or .json"):
        read_labels("names.xlsx", ["a.png"], {})


# What looks like labels


@pytest.mark.parametrize(
    ("pictures", "others", "sentence"),
    [
        (["a.png", "b.png"], [], ""),
        (["x/a.png", "x/b.png"], [], ""),
        (["x/a.png", "y/b.png", "y/c.png"], [], ""),  # one picture is no class
        (
            ["dog/1.png", "dog/2.png", "cat/1.png", "cat/2.png"],
            [],
            "2 folders look like classes (cat, dog): --labels folders would use them",
        ),
        (
            [f"{letter}/{number}.png" for letter in "fedcba" for number in "12"],
            [],
            "6 folders look like classes (a, b, c, d, e, …): --labels folders would use them",
        ),
        (["0.png", "1.png"], ["0.cls"], "the .cls files look like labels: --labels cls would use them"),
        (
            ["00000/img0.png"],
            ["LICENSE.txt", "dataset.json"],
            "dataset.json looks like labels: --labels dataset.json would use them",
        ),
        (
            ["img/1.png"],
            ["Anno/list_attr_celeba.txt"],
            "Anno/list_attr_celeba.txt looks like labels: --labels Anno/list_attr_celeba.txt would use them",
        ),
    ],
)
def test_what_looks_like_labels_is_mentioned(pictures: list[str], others: list[str], sentence: str) -> None:
    assert labels_in_sight(pictures, dict.fromkeys(others, bytes)) == sentence
