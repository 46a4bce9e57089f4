import csv
import io
import os
import signal
import tarfile
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making.build import build_dataset
from progan_service.data.making.collection import files as source_files
from progan_service.data.making.collection.files import LeftOut
from progan_service.errors import ConfigError, FileError
from progan_service.names import unescaped

SavePictures = Callable[[Path, int], Path]


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


def _called(_stage: str, _done: int, _total: int) -> None:
    raise AssertionError


def _png_of(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _png(colour: str = "red", size: tuple[int, int] = (8, 8)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _tar(path: Path, mode: str, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _level_bytes(directory: Path, log2: int = 3) -> bytes:
    (path,) = directory.glob(f"*-r{log2:02d}.tfrecords")
    return path.read_bytes()


def test_a_folder_becomes_a_dataset(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 3)
    save_pictures(source / "more" / "deep", 2)
    (source / "LICENSE").write_text("Take them.")
    (source / "notes.txt").write_text("ignored")
    (source / ".hidden.png").write_text("ignored")

    summary = build_dataset(source, tmp_path / "out", 8, "crop", _silent)

    assert (summary.image_count, summary.license_found) == (5, True)
    assert summary.remainder.left_out == [
        LeftOut(".hidden.png", "is hidden: its name begins with a dot"),
        LeftOut("notes.txt", "is a text"),
    ]
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.name, dataset.count, dataset.resolution, dataset.labels) == ("out", 5, 8, None)
    assert dataset.manifest is not None
    assert (dataset.manifest.source, dataset.manifest.fit) == ("photos", "crop")
    assert dataset.manifest.license_text == "Take them."
    reds = dataset.images(np.arange(5), 8)[:, 0, 0, 0]
    assert sorted(reds.tolist()) == [0, 0, 20, 20, 40]


def test_images_are_shuffled_the_same_way_each_time(tmp_path: Path, save_pictures: SavePictures) -> None:
    """RandomState(123).shuffle of five: 1 3 4 0 2."""
    source = save_pictures(tmp_path / "photos", 5)
    build_dataset(source, tmp_path / "out", 8, "crop", _silent)
    reds = Dataset.open(tmp_path / "out").images(np.arange(5), 8)[:, 0, 0, 0]
    assert (reds // 20).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "download"])
def test_every_kind_of_archive_gives_the_bytes_that_the_folder_gives(
    tmp_path: Path, save_pictures: SavePictures, name: str
) -> None:
    folder = save_pictures(tmp_path / "photos", 4)
    members = {path.name: path.read_bytes() for path in sorted(folder.iterdir(), reverse=True)}
    compression = {"a.tar.gz": "gz", "a.tar.bz2": "bz2", "a.tar.xz": "xz"}.get(name, "")
    make = _zip if name == "a.zip" else lambda path, members: _tar(path, f"w:{compression}", members)
    archive = make(tmp_path / name, members)

    build_dataset(folder, tmp_path / "from_folder", 8, "crop", _silent)
    build_dataset(archive, tmp_path / "from_archive", 8, "crop", _silent)

    assert _level_bytes(tmp_path / "from_folder") == _level_bytes(tmp_path / "from_archive")


def test_progress_is_told_for_both_passes(tmp_path: Path, save_pictures: SavePictures) -> None:
    calls: list[tuple[str, int, int]] = []
    source = save_pictures(tmp_path / "photos", 2)
    build_dataset(source, tmp_path / "out", 8, "crop", lambda *call: calls.append(call))
    assert calls == [("Checking", 1, 2), ("Checking", 2, 2), ("Writing", 1, 2), ("Writing", 2, 2)]


def test_the_licence_nearest_to_the_root_is_kept(tmp_path: Path) -> None:
    members = {"set/deep/LICENSE": b"deep", "set/license.txt": b"near", "set/a.png": _png()}
    build_dataset(_zip(tmp_path / "a.zip", members), tmp_path / "out", 8, "crop", _silent)
    manifest = Dataset.open(tmp_path / "out").manifest
    assert manifest is not None
    assert manifest.license_text == "near"


def test_a_picture_or_binary_file_is_no_licence(tmp_path: Path) -> None:
    members = {"license.jpg": _png(), "LICENSE": _png(), "LICENSE.pdf": b"%PDF-1.4", "set/COPYING.md": b"# Take them."}
    summary = build_dataset(_zip(tmp_path / "a.zip", members), tmp_path / "out", 8, "crop", _silent)
    manifest = Dataset.open(tmp_path / "out").manifest
    assert (summary.image_count, summary.license_found) == (2, True)
    assert summary.remainder.left_out == [LeftOut("LICENSE.pdf", "is a PDF document")]
    assert manifest is not None
    assert manifest.license_text == "# Take them."


def test_without_a_licence_in_text_there_is_none(tmp_path: Path) -> None:
    members = {"license.jpg": _png(), "LICENSE": b"\0", "LICENSE.txt": b""}
    summary = build_dataset(_zip(tmp_path / "a.zip", members), tmp_path / "out", 8, "crop", _silent)
    manifest = Dataset.open(tmp_path / "out").manifest
    assert not summary.license_found
    assert manifest is not None
    assert manifest.license_text is None


def test_all_problems_are_collected_and_named(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    (source / "broken.png").write_bytes(_png()[:50])
    (source / "empty.jpg").touch()
    (source / "small.png").write_bytes(_png(size=(20, 7)))
    with pytest.raises(DatasetError) as caught:
        build_dataset(source, tmp_path / "out", 8, "crop", _silent)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(
        "photos: 3 of 4 pictures cannot be used: mend or remove them, or leave them out (--skip-unusable); "
        "1 of them is too small, the largest 20x7: take small ones by a lower --resolution, --small enlarge or "
        "--small pad"
    )
    assert lines[1].startswith("  broken.png: cannot be decoded: ")
    assert lines[2:] == [
        "  empty.jpg: is empty",
        "  small.png: 20x7 pixels: the shorter side must be at least 8",
    ]


def test_of_pictures_that_are_all_too_small_the_largest_is_named(tmp_path: Path) -> None:
    small = {f"{side}.png": _png(size=(side, side + 2)) for side in (8, 12, 9)}
    advice = "too small, the largest 12x14: take small ones by a lower --resolution, --small enlarge or --small pad"
    with pytest.raises(DatasetError) as caught:
        build_dataset(_zip(tmp_path / "a.zip", small), tmp_path / "out", 64, "crop", _silent)
    assert str(caught.value).splitlines()[:2] == [
        f"{tmp_path}/a.zip: 3 of 3 pictures cannot be used: all are {advice}",
        "  12.png: 12x14 pixels: the shorter side must be at least 64",
    ]
    with pytest.raises(DatasetError, match=f"a.zip: holds no usable pictures: all are {advice}\n"):
        build_dataset(tmp_path / "a.zip", tmp_path / "out", 64, "crop", _silent, skip_unusable=True)
    with pytest.raises(DatasetError, match=f"4 of 4 pictures cannot be used: mend .*; 3 of them are {advice}\n"):
        build_dataset(_zip(tmp_path / "b.zip", {**small, "none.png": b""}), tmp_path / "out", 64, "crop", _silent)


def test_a_dataset_is_trained_on_as_it_is(tmp_path: Path, save_pictures: SavePictures) -> None:
    build_dataset(save_pictures(tmp_path / "photos", 2), tmp_path / "set", 8, "crop", _silent)
    with pytest.raises(DatasetError) as caught:
        build_dataset(tmp_path / "set", tmp_path / "out", 4, "crop", _silent)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/set: holds no pictures, but a dataset: "
        f"train on it as it is (`progan train --data {tmp_path}/set`)",
        "  2 left out: is a text",
        "  2 left out: holds TFRecords: if they are of `progan dataset` or NVIDIA's tools, "
        "train on the folder as it is",
    ]


def test_of_many_problems_twenty_are_shown(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {f"{index:02d}.png": b"" for index in range(23)})
    with pytest.raises(DatasetError) as caught:
        build_dataset(path, tmp_path / "out", 8, "crop", _silent)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  … and 3 more: --report FILE names all"


def test_a_member_beyond_the_size_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_FILE_BYTES", 2**20)
    path = _zip(tmp_path / "a.zip", {"huge.png": bytes(3 * 2**20)})
    with pytest.raises(DatasetError, match="huge.png: 3 MiB, the largest file read is 1 MiB"):
        build_dataset(path, tmp_path / "out", 8, "crop", _silent)


def test_a_member_damaged_inside_its_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:  # stored, so that its bytes are easy to find
        archive.writestr("a.png", _png())
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"IDAT")] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.png: cannot be read: Bad CRC-32 for file 'a\.png'"):
        build_dataset(tmp_path / "a.zip", tmp_path / "out", 8, "crop", _silent)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 3], id="cut off"),
        pytest.param(lambda content: content[:700], id="cut off early"),
        pytest.param(lambda content: content[:1024] + b"\xaa" * 512 + content[1536:], id="a header overwritten"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"hello" * 500, id="no archive"),
    ],
)
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_damaged_tar_is_one_clear_sentence(tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 8192), dtype=np.uint8).tobytes()
    path = _tar(tmp_path / name, "w:gz" if name.endswith("gz") else "w", {"a.png": _png(), "b.png": noise})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=rf"{name}: cannot be read as a folder, zip or tar of images: ") as caught:
        build_dataset(path, tmp_path / "out", 8, "crop", _silent)
    assert "\n" not in str(caught.value)


def test_a_damaged_zip_is_one_clear_sentence(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"a.png": _png()})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetError, match=r"a\.zip: is a zip without its end: get it again; or if it is one of "):
        build_dataset(path, tmp_path / "out", 8, "crop", _silent)


def test_a_zip_of_an_unknown_version_is_one_clear_sentence(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"a.png": _png()})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 255  # the version that is needed to read the member
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"tar of images: zip file version 25\.5$"):
        build_dataset(path, tmp_path / "out", 8, "crop", _silent)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="photos: does not exist: give a folder, a zip or a tar of images"):
        build_dataset(tmp_path / "photos", tmp_path / "out", 8, "crop", _silent)


def test_a_source_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "README.md").touch()
    with pytest.raises(DatasetError, match=r"photos: holds no pictures\n  1 left out: is empty$"):
        build_dataset(tmp_path / "photos", tmp_path / "out", 8, "crop", _silent)


def test_an_output_that_exists_is_left_alone(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(ConfigError, match="out: already exists: give the name of a new directory"):
        build_dataset(source, tmp_path / "out", 8, "crop", _silent)
    assert (tmp_path / "out" / "precious").exists()


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file/out: a part of this path is a file, not a directory; give another path"):
        build_dataset(source, tmp_path / "file" / "out", 8, "crop", _silent)


def test_missing_parents_of_the_output_are_made(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    build_dataset(source, tmp_path / "sets" / "first" / "out", 8, "crop", _silent)
    assert Dataset.open(tmp_path / "sets" / "first" / "out").count == 1


@pytest.mark.parametrize("stage", ["Checking", "Writing"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_nothing_is_left_behind_by_a_failure(
    tmp_path: Path, save_pictures: SavePictures, stage: str, interruption: type[BaseException]
) -> None:
    def fail(current: str, done: int, _total: int) -> None:
        if (current, done) == (stage, 2):
            raise interruption

    source = save_pictures(tmp_path / "photos", 3)
    with pytest.raises(interruption):
        build_dataset(source, tmp_path / "out", 8, "crop", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_nothing_is_left_behind_by_sigterm(tmp_path: Path, save_pictures: SavePictures) -> None:
    def terminate(stage: str, _done: int, _total: int) -> None:
        if stage == "Writing":
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    source = save_pictures(tmp_path / "photos", 3)
    with pytest.raises(SystemExit) as caught:
        build_dataset(source, tmp_path / "out", 8, "crop", terminate)
    assert caught.value.code == 143
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_unusable_pictures_are_left_out_on_request(tmp_path: Path, save_pictures: SavePictures) -> None:
    """The dataset is that of the other pictures: RandomState(123).shuffle of five is 1 3 4 0 2."""
    source = save_pictures(tmp_path / "photos", 5)
    (source / "000a.png").write_bytes(_png(size=(20, 7)))
    (source / "003a.png").touch()
    summary = build_dataset(source, tmp_path / "out", 8, "crop", _silent, skip_unusable=True)
    reds = Dataset.open(tmp_path / "out").images(np.arange(5), 8)[:, 0, 0, 0]
    assert (reds // 20).tolist() == [1, 3, 4, 0, 2]
    assert summary.image_count == 5
    assert summary.remainder.summary() == [
        "2 left out: cannot be used",
        "  000a.png: 20x7 pixels: the shorter side must be at least 8",
        "  003a.png: is empty",
    ]


def test_without_a_usable_picture_nothing_is_made(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"a.png": b"", "b.txt": b"text"})
    with pytest.raises(DatasetError) as caught:
        build_dataset(path, tmp_path / "out", 8, "crop", _silent, skip_unusable=True)
    assert str(caught.value).splitlines() == [
        f"{path}: holds no usable pictures",
        "  1 left out: is a text",
        "  1 left out: cannot be used",
        "    a.png: is empty",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("skip_unusable", [True, False])
def test_the_report_names_all_that_is_not_in_the_dataset(
    tmp_path: Path, save_pictures: SavePictures, skip_unusable: bool
) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    for index in range(25):
        (source / f"empty{index:02d}.png").touch()
    (source / 'a,"b"\n\\c.txt').write_text("text")
    (source / os.fsdecode(b"\xff.txt")).write_text("text")
    with suppress(DatasetError):
        build_dataset(
            source,
            tmp_path / "out",
            8,
            "crop",
            _silent,
            skip_unusable=skip_unusable,
            report=tmp_path / "left" / "r.csv",
        )
    lines = (tmp_path / "left" / "r.csv").read_text().splitlines()
    assert lines[0] == "file,reason"
    assert lines[1] == r'"a,""b""\x0a\x5cc.txt",is a text'
    assert lines[2:27] == [f"empty{index:02d}.png,is empty" for index in range(25)]
    assert lines[27:] == [r"\xff.txt,is a text"]
    assert (tmp_path / "out").exists() == skip_unusable


def test_a_report_that_cannot_be_written_is_known_before_the_work(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file/report.csv: a file of this name, or of a part of it, is in the way"):
        build_dataset(source, tmp_path / "out", 8, "crop", _called, report=tmp_path / "file" / "report.csv")


def test_the_file_of_each_image_is_written_beside_them(tmp_path: Path) -> None:
    """RandomState(123).shuffle of five: 1 3 4 0 2. The names are those of the source, and can be had back."""
    names = ["0.png", "1,\n.png", os.fsdecode(b"2\xff.png"), "3 \\ Ä.png", "4/\x1b[31m.png"]
    (tmp_path / "photos" / "4").mkdir(parents=True)
    for name in names:
        (tmp_path / "photos" / name).write_bytes(_png())
    build_dataset(tmp_path / "photos", tmp_path / "out", 8, "crop", _silent)
    assert (tmp_path / "out" / "files.csv").read_text().splitlines() == [
        "index,file",
        r'0,"1,\x0a.png"',
        r"1,3 \x5c Ä.png",
        r"2,4/\x1b[31m.png",
        r"3,0.png",
        r"4,2\xff.png",
    ]
    with (tmp_path / "out" / "files.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [unescaped(row["file"]) for row in rows] == [names[index] for index in (1, 3, 4, 0, 2)]


@pytest.mark.parametrize("name", ["out\n", "out\x1b[31m", os.fsdecode(b"out\xff"), "out *?[a]"])
def test_a_dataset_may_have_any_name(tmp_path: Path, save_pictures: SavePictures, name: str) -> None:
    source = save_pictures(tmp_path / name / "photos", 2)
    build_dataset(source, tmp_path / name / name, 8, "crop", _silent)
    dataset = Dataset.open(tmp_path / name / name)
    assert (dataset.name, dataset.count) == (name, 2)


def test_several_processes_make_the_same_dataset(tmp_path: Path) -> None:
    """150 pictures are worth four processes."""
    noise = np.random.default_rng(5).integers(0, 256, (150, 9, 8, 3), np.uint8)
    members = {f"{index}.png": _png_of(pixels) for index, pixels in enumerate(noise)}
    members["100a.png"], members["120a.txt"] = b"", b"text"
    path = _zip(tmp_path / "a.zip", members)
    summaries = [
        build_dataset(path, tmp_path / f"set{cpus}", 8, "crop", _silent, skip_unusable=True, cpus=cpus)
        for cpus in (1, 4)
    ]
    assert [summary.image_count for summary in summaries] == [150, 150]
    assert _level_bytes(tmp_path / "set1") == _level_bytes(tmp_path / "set4")
    assert (tmp_path / "set1" / "files.csv").read_bytes() == (tmp_path / "set4" / "files.csv").read_bytes()
    assert summaries[0].remainder.summary() == summaries[1].remainder.summary()


def test_a_picture_that_changes_between_the_passes_is_named(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 2)

    def spoil(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("Checking", total):
            (source / "001.png").write_text("spoiled")

    with pytest.raises(DatasetError, match=r"001\.png changed while it was read: is a text"):
        build_dataset(source, tmp_path / "out", 8, "crop", spoil)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_another_thread_may_build_too(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    thread = threading.Thread(target=build_dataset, args=(source, tmp_path / "out", 8, "crop", _silent))
    thread.start()
    thread.join()
    assert Dataset.open(tmp_path / "out").count == 1


def test_a_dataset_of_digits_is_grey_with_black_borders(tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", np.full((3, 6, 6), 200, np.uint8))
    with pytest.raises(DatasetError, match="6x6 pixels: the shorter side must be at least 8"):
        build_dataset(tmp_path / "digits.npy", tmp_path / "out", 8, "crop", _silent, channels=1)
    build_dataset(
        tmp_path / "digits.npy", tmp_path / "out", 8, "crop", _silent, channels=1, small="pad", background="black"
    )
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.channels, dataset.count, dataset.resolution) == (1, 3, 8)
    assert dataset.images(np.arange(1), 8)[0, :, 4, 0].tolist() == [0, 200, 200, 200, 200, 200, 200, 0]
    manifest = dataset.manifest
    assert manifest is not None
    assert (manifest.channels, manifest.small, manifest.background) == (1, "pad", "black")


def test_pictures_of_any_colour_become_grey(tmp_path: Path) -> None:
    """The luma of Rec. 601: 0.299 R + 0.587 G + 0.114 B."""
    source = _zip(tmp_path / "a.zip", {"a.png": _png("#c86432"), "b.png": _png("#c86432")})
    build_dataset(source, tmp_path / "out", 8, "crop", _silent, channels=1)
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.channels == 1
    assert (dataset.images(np.arange(2), 8) == 124).all()


def test_what_is_done_to_pictures_reaches_the_processes_that_decode_them(tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", np.full((200, 6, 6), 200, np.uint8))
    for cpus, name in ((1, "one"), (2, "two")):
        build_dataset(
            *(tmp_path / "digits.npy", tmp_path / name, 8, "pad", _silent),
            **{"channels": 1, "small": "enlarge", "background": "black", "cpus": cpus},  # type: ignore[arg-type]
        )
    assert _level_bytes(tmp_path / "one") == _level_bytes(tmp_path / "two")


def test_arguments_out_of_range_are_refused(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    with pytest.raises(DatasetError, match="resolution is 12: it must be a power of two from 4 to 1024"):
        build_dataset(source, tmp_path / "out", 12, "crop", _silent)
    with pytest.raises(DatasetError, match="fit is 'stretch': it must be one of crop, pad"):
        build_dataset(source, tmp_path / "out", 8, "stretch", _silent)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="channels is 2: it must be one of 3, 1"):
        build_dataset(source, tmp_path / "out", 8, "crop", _silent, channels=2)  # type: ignore[arg-type]
