import bz2
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from progan_service.data.errors import DatasetError
from progan_service.data.making.collection import unpacking
from progan_service.data.making.collection.files import Collection, LeftOut
from progan_service.errors import FileError

Opened = Callable[[Path], Collection]
Entry = bytes | tuple[bytes, str]  # content, or the type and target of a link

_OUT = "is a link that leads out of the archive"
_AGAIN = "is a link to a folder that is read already"
_NOTHING = "is a link to nothing in the archive"


def _tar(path: Path, entries: list[tuple[str, Entry]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, entry in entries:
            info = tarfile.TarInfo(name)
            if isinstance(entry, bytes):
                info.size = len(entry)
                archive.addfile(info, io.BytesIO(entry))
            else:
                info.type, info.linkname = entry
                archive.addfile(info)
    return path


def _zip(path: Path, entries: list[tuple[str, Entry]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in entries:
            if isinstance(entry, bytes):
                archive.writestr(name, entry)
            elif entry[0] == tarfile.SYMTYPE:
                info = zipfile.ZipInfo(name)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, entry[1])
    return path


_SYMBOLIC: list[tuple[str, Entry]] = [
    ("set/one.png", b"one"),
    ("set/two.png", (tarfile.SYMTYPE, "one.png")),
    ("three.png", (tarfile.SYMTYPE, "./set/../set/two.png")),
    ("all", (tarfile.SYMTYPE, "set")),
    ("set/up", (tarfile.SYMTYPE, "..")),
    ("set/gone.png", (tarfile.SYMTYPE, "none.png")),
    ("set/out.png", (tarfile.SYMTYPE, "../../one.png")),
    ("set/root.png", (tarfile.SYMTYPE, "/etc/passwd")),
    ("a.png", (tarfile.SYMTYPE, "b.png")),
    ("b.png", (tarfile.SYMTYPE, "a.png")),
]


@pytest.mark.parametrize("make", [_tar, _zip])
def test_symbolic_links_lead_to_other_members(tmp_path: Path, opened: Opened, make: Callable[..., Path]) -> None:
    collection = opened(make(tmp_path / "archive", _SYMBOLIC))
    assert [(file.name, file.read()) for file in collection.files] == [
        ("set/one.png", b"one"),
        ("set/two.png", b"one"),
        ("three.png", b"one"),
    ]
    assert collection.left_out == [
        LeftOut("a.png", _NOTHING),
        LeftOut("all", _AGAIN),
        LeftOut("b.png", _NOTHING),
        LeftOut("set/gone.png", _NOTHING),
        LeftOut("set/out.png", _OUT),
        LeftOut("set/root.png", _OUT),
        LeftOut("set/up", _AGAIN),
    ]


def test_hard_links_in_a_tar_are_files(tmp_path: Path, opened: Opened) -> None:
    path = _tar(
        tmp_path / "a.tar",
        [
            ("./set/one.png", b"one"),
            ("./set/two.png", (tarfile.LNKTYPE, "./set/one.png")),
            ("three.png", (tarfile.LNKTYPE, "none.png")),
            ("four.png", (tarfile.LNKTYPE, "../one.png")),
        ],
    )
    collection = opened(path)
    assert [(file.name, file.read()) for file in collection.files] == [("set/one.png", b"one"), ("set/two.png", b"one")]
    assert collection.left_out == [LeftOut("four.png", _OUT), LeftOut("three.png", _NOTHING)]


def test_a_tar_of_a_folder_with_links_has_its_files(tmp_path: Path, opened: Opened) -> None:
    """Six names of pictures in the folder, and in the tar that Python makes of it."""
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    for name in ("1", "2", "deep/3"):
        (photos / name).write_text(name)
    (photos / "4").symlink_to("1")
    (photos / "5").symlink_to("deep/3")
    (photos / "deep" / "6").hardlink_to(photos / "2")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(photos, ".")
    of_folder, of_tar = (
        [(file.name, file.read()) for file in opened(path).files] for path in (photos, tmp_path / "a.tar")
    )
    assert (
        of_folder
        == of_tar
        == [("1", b"1"), ("2", b"2"), ("4", b"1"), ("5", b"deep/3"), ("deep/3", b"deep/3"), ("deep/6", b"2")]
    )


def test_names_that_lead_out_and_devices_are_named(tmp_path: Path, opened: Opened) -> None:
    path = _tar(
        tmp_path / "a.tar",
        [
            ("../evil.png", b""),
            ("a/../../evil.png", b""),
            ("/abs.png", b"here"),
            ("dev.png", (tarfile.CHRTYPE, "")),
            ("pipe.png", (tarfile.FIFOTYPE, "")),
        ],
    )
    collection = opened(path)
    assert [(file.name, file.read()) for file in collection.files] == [("/abs.png", b"here")]
    assert collection.left_out == [
        LeftOut("../evil.png", "has a name that leads out of the archive"),
        LeftOut("dev.png", "is a device"),
        LeftOut("pipe.png", "is a named pipe"),
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [_tar, _zip])
def test_the_last_member_of_a_name_counts(tmp_path: Path, opened: Opened, make: Callable[..., Path]) -> None:
    collection = opened(make(tmp_path / "archive", [("a.png", b"old"), ("a.png", b"new")]))
    assert [(file.name, file.read()) for file in collection.files] == [("a.png", b"new")]
    assert collection.left_out == [LeftOut("a.png", "is replaced by a later file of the same name")]


@pytest.mark.parametrize("make", [_tar, _zip])
def test_what_macs_add_to_archives_is_left_out(tmp_path: Path, opened: Opened, make: Callable[..., Path]) -> None:
    names = ["one.png", "__MACOSX/._one.png", "__MACOSX/two.png", "a/.DS_Store", "a/._b.png"]
    collection = opened(make(tmp_path / "archive", [(name, b"x") for name in names]))
    assert [file.name for file in collection.files] == ["one.png"]
    assert [entry.name for entry in collection.left_out] == ["__MACOSX/", "a/.DS_Store", "a/._b.png"]


def test_a_sparse_file_of_a_tar_is_read(tmp_path: Path, opened: Opened) -> None:
    """As GNU tar writes a file of 1,024 bytes that has its last half only."""
    info = tarfile.TarInfo("sparse.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (512, 512)
    header[483:495] = b"%011o\0" % 1024
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + b"x" * 512 + bytes(1024))
    (file,) = opened(tmp_path / "a.tar").files
    assert file.read() == bytes(512) + b"x" * 512
    assert file.head() == bytes(512)


def test_a_tar_that_unpacks_to_too_much_is_refused_before_it_fills_the_disk(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty million zeros are 45 bytes of bzip2."""
    monkeypatch.setattr(unpacking, "ALWAYS_BYTES", 2**20)
    (tmp_path / "bomb.tar.bz2").write_bytes(bz2.compress(bytes(20_000_000)))
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path / "bomb.tar.bz2")
    assert str(caught.value) == (
        f"{tmp_path}/bomb.tar.bz2: unpacks to more than 100 times its size and more than 0 GiB: "
        "unpack it yourself, if it can be trusted, and give the folder"
    )


def test_a_tar_that_the_disk_has_no_room_for_is_refused(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = unpacking.shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: free)
    path = _tar(tmp_path / "a.tar.gz", [("a.png", bytes(2**20))], "w:gz")
    with pytest.raises(FileError, match=r"a\.tar\.gz: unpacks to more than nine tenths of the free disk \(0\.0 GiB\)"):
        opened(path)


def test_a_zip_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "ALWAYS_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"{index}.png", bytes(10_000_000))
    with pytest.raises(DatasetError, match=r"bomb\.zip: unpacks to more than 100 times its size"):
        opened(tmp_path / "bomb.zip")


@pytest.mark.parametrize("name", ["P6 2020/a.png", "070712/a.png", "BZh/a.png", "PK/a.png", "ARROW1"])
def test_a_tar_is_not_taken_for_what_the_name_of_its_first_file_says(tmp_path: Path, opened: Opened, name: str) -> None:
    assert [file.name for file in opened(_tar(tmp_path / "a.tar", [(name, b"x")])).files] == [name]


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path, opened: Opened) -> None:
    inner = _zip(tmp_path / "inner.zip", [("inner.png", b"x")]).read_bytes()
    path = _tar(tmp_path / "a.tar", [("a.png", b"x"), ("z.zip", inner)])
    assert zipfile.is_zipfile(path)
    assert [file.name for file in opened(path).files] == ["a.png", "z.zip"]


def test_no_temporary_file_is_left(tmp_path: Path, opened: Opened) -> None:
    opened(_tar(tmp_path / "a.tar.xz", [("a.png", b"x")], "w:xz"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.xz"]
