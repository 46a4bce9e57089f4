"""Datasets made with labels, and labels added later."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making.build import BuildSummary, build_dataset
from progan_service.data.making.labels.add import label_dataset

CATS, DOGS = [f"cat/{number}.png" for number in range(3)], [f"dog/{number}.png" for number in range(2)]


def png(shade: int, side: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


def shade_of(name: str) -> int:
    """Each picture has one colour, so that its image can be told in the dataset."""
    return 100 * name.startswith("dog") + 10 * int(name[-5])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in CATS + DOGS:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(shade_of(name)))
    return tmp_path / "photos"


def built(source: Path, labels: str | None = None, **options: Any) -> tuple[Dataset, BuildSummary]:
    out = source.parent / "set"
    summary = build_dataset(source, out, 4, "crop", lambda *_: None, labels=labels, **options)
    return Dataset.open(out), summary


def labels_by_shade(dataset: Dataset) -> dict[int, list[str]]:
    """Return the names of the labels of each image, which is known by its colour."""
    assert dataset.labels is not None
    shades = dataset.images(np.arange(dataset.count), 4)[:, 0, 0, 0].tolist()
    rows = [[name for name, holds in zip(dataset.label_names, row, strict=True) if holds] for row in dataset.labels]
    return dict(zip(shades, rows, strict=True))


CLASSES = {0: ["cat"], 10: ["cat"], 20: ["cat"], 100: ["dog"], 110: ["dog"]}


def test_labels_go_with_their_images_through_the_shuffle(photos: Path) -> None:
    dataset, summary = built(photos, "folders")
    assert labels_by_shade(dataset) == CLASSES
    assert dataset.label_kind == "classes"
    assert summary.labels == "2 classes: cat (3), dog (2)"


def test_a_table_lies_anywhere(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,kind\n" + "".join(f"{name},{name[:3]}\n" for name in CATS + DOGS))
    assert labels_by_shade(built(photos, str(table))[0]) == CLASSES


def test_attributes_of_stylegan_lie_in_its_zip_and_are_not_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("00000/img0.png", png(0))
        archive.writestr("00000/img1.png", png(10))
        archive.writestr(
            "dataset.json", json.dumps({"labels": [["00000/img1.png", [1, 1]], ["00000/img0.png", [0, 1]]]})
        )
    dataset, summary = built(tmp_path / "faces.zip", "dataset.json")
    assert labels_by_shade(dataset) == {0: ["1"], 10: ["0", "1"]}
    assert dataset.label_kind == "attributes"
    assert (summary.labels, summary.remainder.left_out) == ("2 attributes: 0 (1), 1 (2)", [])


def test_a_tar_of_webdataset_has_a_class_beside_each_picture(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard-000.tar", "w") as archive:
        for name, content in (("0.png", png(0)), ("0.cls", b"7"), ("1.png", png(10)), ("1.cls", b"3\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    dataset, summary = built(tmp_path / "shard-000.tar", "cls")
    assert labels_by_shade(dataset) == {0: ["7"], 10: ["3"]}
    assert summary.remainder.left_out == []


def test_pictures_that_are_left_out_may_have_labels(photos: Path) -> None:
    (photos / "dog" / "0.png").write_bytes(b"no picture")
    dataset, summary = built(photos, "folders", skip_unusable=True)
    assert labels_by_shade(dataset) == {shade: names for shade, names in CLASSES.items() if shade != 100}
    assert summary.labels == "2 classes: cat (3), dog (1)"


def test_without_labels_what_looks_like_them_is_mentioned(photos: Path) -> None:
    dataset, summary = built(photos)
    assert dataset.labels is None
    assert summary.labels == "2 folders look like classes (cat, dog): --labels folders would use them"


def test_labels_that_do_not_fit_leave_nothing(photos: Path, tmp_path: Path) -> None:
    (photos / "labels.csv").write_text("file,kind\ncat/0.png,cat\n")
    with pytest.raises(DatasetError, match=r"pictures without a label \(4\)"):
        built(photos, "labels.csv")
    with pytest.raises(DatasetError, match="labels are cls, and there are no .cls files"):
        built(photos, "cls")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


# Later


def test_labels_can_be_added_later(photos: Path, tmp_path: Path) -> None:
    dataset, _ = built(photos)
    assert label_dataset(dataset.directory, "folders").summary() == "2 classes: cat (3), dog (2)"
    assert labels_by_shade(Dataset.open(dataset.directory)) == CLASSES


def test_other_labels_take_their_place(photos: Path, tmp_path: Path) -> None:
    dataset, _ = built(photos, "folders")
    table = tmp_path / "table.csv"
    table.write_text(
        "file,dark,cat,first\n" + "".join(f"{name},1,{int('cat' in name)},{int('0' in name)}\n" for name in CATS + DOGS)
    )
    label_dataset(dataset.directory, str(table))
    found = Dataset.open(dataset.directory)
    assert (found.label_kind, found.label_names) == ("attributes", ("dark", "cat", "first"))
    assert labels_by_shade(found)[0] == ["dark", "cat", "first"]
    assert labels_by_shade(found)[110] == ["dark"]


def test_labels_that_do_not_fit_change_nothing(photos: Path, tmp_path: Path) -> None:
    dataset, _ = built(photos, "folders")
    before = {path.name: path.read_bytes() for path in dataset.directory.iterdir()}
    (tmp_path / "table.csv").write_text("file,kind\ncat/0.png,a\ncat/9.png,b\n")
    with pytest.raises(DatasetError, match=r"lines whose picture is not there \(1\):\n    line 3: cat/9.png"):
        label_dataset(dataset.directory, str(tmp_path / "table.csv"))
    assert {path.name: path.read_bytes() for path in dataset.directory.iterdir()} == before


def test_what_a_newer_release_wrote_is_kept(photos: Path) -> None:
    dataset, _ = built(photos)
    manifest = json.loads((dataset.directory / "dataset.json").read_text())
    (dataset.directory / "dataset.json").write_text(json.dumps(manifest | {"mood": "calm"}))
    label_dataset(dataset.directory, "folders")
    assert json.loads((dataset.directory / "dataset.json").read_text()) == manifest | {
        "mood": "calm",
        "label_names": ["cat", "dog"],
        "label_kind": "classes",
    }


def test_a_name_that_is_no_text_has_its_label(tmp_path: Path) -> None:
    names = ["caf\udce9/1.png", "caf\udce9/a\\b.png", "tea/1\n.png"]
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(10 * len(path.name)))
    dataset, _ = built(tmp_path / "photos")
    (tmp_path / "table.json").write_text(json.dumps({"labels": [[name, len(name)] for name in names]}))
    label_dataset(dataset.directory, str(tmp_path / "table.json"))
    assert labels_by_shade(Dataset.open(dataset.directory)) == {50: ["10"], 70: ["12"], 60: ["10"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "files.csv: is missing: only `progan dataset build` notes the file of each image"),
        (b"", "files.csv: must have the columns index,file, and a line for each of 5 images in order"),
        (b"index,file\n0,a.png\n", "a line for each of 5 images in order"),
        (b"index,file\n1,a\n0,b\n2,c\n3,d\n4,e\n", "a line for each of 5 images in order"),
        (b"index,file\n0,a\n1\n2,c\n3,d\n4,e\n", "a line for each of 5 images in order"),
        (b'index,file\n0,"a\n', "files.csv: is no list of files: unexpected end of data"),
        (b"index,file\n0,\xff\n", "files.csv: is no list of files: 'utf-8' codec can't decode"),
    ],
)
def test_the_order_of_the_images_must_be_known(photos: Path, content: bytes | None, says: str) -> None:
    dataset, _ = built(photos)
    (dataset.directory / "files.csv").unlink()
    if content is not None:
        (dataset.directory / "files.csv").write_bytes(content)
    with pytest.raises(DatasetError) as refused:
        label_dataset(dataset.directory, "folders")
    assert says in str(refused.value)
