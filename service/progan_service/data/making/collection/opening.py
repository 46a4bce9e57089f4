"""Opens a collection of pictures, whatever it is kept in: its kind is told by its content."""

import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from progan_service.data.errors import DatasetError
from progan_service.data.making.collection.arrays import array_files, is_array, is_npz, npz_files
from progan_service.data.making.collection.files import (
    ARCHIVE_ERRORS,
    LISTED_AT_ONCE,
    Collection,
    LeftOut,
    SourceFile,
    decompressed,
)
from progan_service.data.making.collection.folder import folder_files
from progan_service.data.making.collection.foreign import foreign_kind
from progan_service.data.making.collection.tars import tar_files
from progan_service.data.making.collection.unpacking import Bound, Scratch, spooled
from progan_service.data.making.collection.zips import is_part_of_a_split_zip, zip_files
from progan_service.decoding.kinds import HEAD_BYTES, picture_kind
from progan_service.errors import ProganError
from progan_service.host.faults import named
from progan_service.progress import Progress

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_JOIN = "join the parts (`zip -s 0 PARTS.zip --out WHOLE.zip`, or `cat NAME.zip.* > WHOLE.zip`)"


@contextmanager
def open_collection(source: Path, scratch: Scratch) -> Iterator[Collection]:
    """Return the files of `source`, sorted by name. They can be read inside the `with` block.

    No file is written under a name that an archive chose.

    Args:
        source: a folder (searched to any depth), a zip, a tar (also compressed by gzip, bzip2 or xz), or an array of
            images: .npy, .npz, or an idx file.
        scratch: for the decompressed bytes of what is read in any order. Its progress is also called with
            ("Listing", files, 0), now and then.

    Raises:
        DatasetError: the path does not exist, is another kind of file, a damaged archive, or unpacks to too much.
        FileError: it may not be read, or the disk has no room for what it unpacks to.
    """
    with ExitStack() as stack:
        with _damage_named(source):
            if not (source.is_dir() or source.is_file()):
                what = "is no file" if source.exists() else "does not exist"
                raise DatasetError(f"{source}: {what}: give a folder, a zip or a tar of images")
            if source.is_dir():
                found: Iterable[SourceFile | LeftOut] = _counted(folder_files(source), scratch.progress)
            else:
                found = _files(source, scratch, stack)
            collection = Collection.of(found)
        yield collection


def _files(source: Path, scratch: Scratch, stack: ExitStack) -> Iterable[SourceFile | LeftOut]:
    file: IO[bytes] = stack.enter_context(source.open("rb"))
    head = file.read(HEAD_BYTES)
    if _is_tar(head):  # first, because a tar begins with the name of its first file, and may end with a zip
        return tar_files(file, scratch.progress)
    if zipfile.is_zipfile(file):
        return _of_zip(source, file, scratch, stack)
    _refuse_foreign(source, head)
    compression = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)
    file.seek(0)
    if compression:
        content = stack.enter_context(decompressed(file, compression))
        file = stack.enter_context(spooled(content, source, scratch))
        head = file.read(HEAD_BYTES)
    if is_array(head):
        return array_files(source, file)
    if compression and not _is_tar(head):
        raise DatasetError(f"{source}: is one file, compressed by {compression}, and no tar: unpack it")
    return tar_files(file, scratch.progress)


def _of_zip(source: Path, file: IO[bytes], scratch: Scratch, stack: ExitStack) -> Iterable[SourceFile | LeftOut]:
    if is_part_of_a_split_zip(file):
        raise DatasetError(f"{source}: is one part of a split zip: {_JOIN}")
    archive = stack.enter_context(zipfile.ZipFile(file))
    if is_npz(archive):
        return stack.enter_context(npz_files(archive, source, scratch))
    return zip_files(archive, Bound(source))


def _refuse_foreign(source: Path, head: bytes) -> None:
    if head.startswith(b"PK"):
        raise DatasetError(
            f"{source}: is a zip without its end: get it again; or if it is one of several parts, {_JOIN}"
        )
    if foreign := foreign_kind(head):
        raise DatasetError(f"{source}: {foreign}")
    if picture_kind(head):
        raise DatasetError(f"{source}: is a picture: give the folder that it is in")


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _counted(found: Iterable[SourceFile | LeftOut], progress: Progress) -> Iterator[SourceFile | LeftOut]:
    for count, entry in enumerate(found, start=1):
        yield entry
        if count % LISTED_AT_ONCE == 0:
            progress("Listing", count, 0)


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    """Raise DatasetError, which names the source, for the errors of a damaged archive."""
    try:
        with named(source):
            yield
    except ProganError:
        raise
    except ARCHIVE_ERRORS as error:
        raise DatasetError(f"{source}: cannot be read as a folder, zip or tar of images: {error}") from None
