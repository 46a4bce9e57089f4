import io
import os
import signal
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making import archives as source_files
from progan_service.data.making.build import build_dataset
from progan_service.errors import ConfigError, FileError

SavePictures = Callable[[Path, int], Path]


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


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

    assert (summary.image_count, summary.ignored_count, summary.license_found) == (5, 3, True)
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


def test_links_and_strange_paths_in_archives_are_passed_over(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", "w", {"good.png": _png(), "../evil.png": _png(), "/abs.png": _png("blue")})
    with tarfile.open(path, "a") as archive:
        for name, kind in (("link.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE), ("dev.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "good.png"
            archive.addfile(info)
    summary = build_dataset(path, tmp_path / "out", 8, "crop", _silent)
    assert (summary.image_count, summary.ignored_count) == (2, 1)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.tar", "out"]


def test_links_in_a_zip_are_passed_over(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    path = _zip(tmp_path / "a.zip", {"good.png": _png()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "good.png")
    assert build_dataset(path, tmp_path / "out", 8, "crop", _silent).image_count == 1


def test_the_licence_nearest_to_the_root_is_kept(tmp_path: Path) -> None:
    members = {"set/deep/LICENSE": b"deep", "set/license.txt": b"near", "set/a.png": _png()}
    build_dataset(_zip(tmp_path / "a.zip", members), tmp_path / "out", 8, "crop", _silent)
    manifest = Dataset.open(tmp_path / "out").manifest
    assert manifest is not None
    assert manifest.license_text == "near"


def test_a_picture_or_binary_file_is_no_licence(tmp_path: Path) -> None:
    members = {"license.jpg": _png(), "LICENSE": _png(), "LICENSE.pdf": b"%PDF", "set/COPYING.md": b"# Take them."}
    summary = build_dataset(_zip(tmp_path / "a.zip", members), tmp_path / "out", 8, "crop", _silent)
    manifest = Dataset.open(tmp_path / "out").manifest
    assert (summary.image_count, summary.license_found) == (1, True)
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
    assert lines[0].endswith("photos: 3 of 4 pictures cannot be used: mend or remove them")
    assert lines[1].startswith("  broken.png: cannot be decoded: ")
    assert lines[2:] == [
        "  empty.jpg: is empty",
        "  small.png: 20x7 pixels: the shorter side must be at least 8",
    ]


def test_of_many_problems_twenty_are_shown(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {f"{index:02d}.png": b"" for index in range(23)})
    with pytest.raises(DatasetError) as caught:
        build_dataset(path, tmp_path / "out", 8, "crop", _silent)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  … and 3 more"


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
    with pytest.raises(DatasetError, match=r"a\.zip: cannot be read as a folder, zip or tar of images: "):
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
    with pytest.raises(DatasetError, match=r"photos: holds no pictures \(1 other files\): looked for \.jpg"):
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


def test_arguments_out_of_range_are_refused(tmp_path: Path, save_pictures: SavePictures) -> None:
    source = save_pictures(tmp_path / "photos", 1)
    with pytest.raises(DatasetError, match="resolution is 12: it must be a power of two from 4 to 1024"):
        build_dataset(source, tmp_path / "out", 12, "crop", _silent)
    with pytest.raises(DatasetError, match="fit is 'stretch': it must be one of crop, pad"):
        build_dataset(source, tmp_path / "out", 8, "stretch", _silent)  # type: ignore[arg-type]
