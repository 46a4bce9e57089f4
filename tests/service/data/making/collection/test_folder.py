import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from progan_service.data.making.collection.files import Collection, LeftOut, UnreadableFileError

Opened = Callable[[Path], Collection]


def _fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def _names(collection: Collection) -> list[str]:
    return [file.name for file in collection.files]


def test_files_are_found_at_any_depth_and_sorted(tmp_path: Path, opened: Opened) -> None:
    collection = opened(_fill(tmp_path / "photos", "b", "a/z/y", "a.png", "a/b"))
    assert _names(collection) == ["a.png", "a/b", "a/z/y", "b"]
    assert collection.files[2].read() == b"content of a/z/y"
    assert collection.files[2].head() == b"content of a/z/y"
    assert collection.left_out == []


def test_links_are_followed_wherever_they_lead(tmp_path: Path, opened: Opened) -> None:
    photos = _fill(tmp_path / "photos", "one")
    elsewhere = _fill(tmp_path / "elsewhere", "two", "deep/three")
    (photos / "linked").symlink_to(elsewhere)
    (photos / "four").symlink_to(elsewhere / "two")
    os.link(elsewhere / "two", photos / "five")
    collection = opened(photos)
    assert _names(collection) == ["five", "four", "linked/deep/three", "linked/two", "one"]
    assert [file.read() for file in collection.files[:3]] == [
        b"content of two",
        b"content of two",
        b"content of deep/three",
    ]
    assert collection.left_out == []


def test_a_loop_of_links_ends(tmp_path: Path, opened: Opened) -> None:
    photos = _fill(tmp_path / "photos", "a/one", "b/two")
    (photos / "a" / "up").symlink_to("..")
    (photos / "b" / "a").symlink_to("../a")
    (photos / "self").symlink_to("self")
    collection = opened(photos)
    assert _names(collection) == ["a/one", "b/two"]
    assert collection.left_out == [
        LeftOut("a/up", "is a link to a folder that is read already"),
        LeftOut("b/a", "is a link to a folder that is read already"),
        LeftOut("self", "is a link to nothing"),
    ]


def test_links_that_fan_out_do_not_multiply_the_files(tmp_path: Path, opened: Opened) -> None:
    """Thirty levels of two links to the next one would be 2^30 files."""
    for level in range(30):
        folder = tmp_path / "levels" / str(level)
        folder.mkdir(parents=True)
        (folder / "x").symlink_to(f"../{level + 1}")
        (folder / "y").symlink_to(f"../{level + 1}")
    _fill(tmp_path / "levels" / "30", "one")
    collection = opened(tmp_path / "levels" / "0")
    assert _names(collection) == ["x/" * 30 + "one"]
    assert len(collection.left_out) == 30


def test_what_is_no_file_is_named(tmp_path: Path, opened: Opened) -> None:
    photos = _fill(tmp_path / "photos", "one")
    os.mkfifo(photos / "pipe.png")
    (photos / "piped.png").symlink_to("pipe.png")
    (photos / "gone.png").symlink_to("nothing")
    (photos / "null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listening:
        place = os.open(photos, os.O_RDONLY)  # the path of a socket must be short
        listening.bind(f"/proc/self/fd/{place}/socket.png")
        os.close(place)
    assert opened(photos).left_out == [
        LeftOut("gone.png", "is a link to nothing"),
        LeftOut("null.png", "is a link to a device"),
        LeftOut("pipe.png", "is a named pipe"),
        LeftOut("piped.png", "is a link to a named pipe"),
        LeftOut("socket.png", "is a socket"),
    ]


def test_what_systems_and_programs_hide_is_left_out(tmp_path: Path, opened: Opened) -> None:
    photos = _fill(
        tmp_path / "photos", "one.png", "._one.png", ".DS_Store", "Thumbs.db", "a/desktop.ini", ".git/x/y", ".z.png"
    )
    _fill(photos, "__MACOSX/one.png", "__MACOSX/two.png")
    collection = opened(photos)
    assert _names(collection) == ["one.png"]
    assert collection.left_out == [
        LeftOut(".DS_Store", "is of an operating system"),
        LeftOut("._one.png", "is of an operating system"),
        LeftOut(".git/", "is hidden: its name begins with a dot"),
        LeftOut(".z.png", "is hidden: its name begins with a dot"),
        LeftOut("Thumbs.db", "is of an operating system"),
        LeftOut("__MACOSX/", "is of an operating system"),
        LeftOut("a/desktop.ini", "is of an operating system"),
    ]


def test_names_that_are_no_text(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "photos").mkdir()
    name = os.fsencode(tmp_path / "photos") + b"/\xff\xfe.png"
    with open(name, "wb") as file:
        file.write(b"content")
    (file,) = opened(tmp_path / "photos").files
    assert (file.name, file.read()) == ("\udcff\udcfe.png", b"content")


def test_a_file_that_goes_away_is_named(tmp_path: Path, opened: Opened) -> None:
    (file,) = opened(_fill(tmp_path / "photos", "one")).files
    (tmp_path / "photos" / "one").unlink()
    with pytest.raises(UnreadableFileError, match="cannot be read: No such file or directory"):
        file.read()
