"""The files of a TF Hub module, from its handle, an archive or a directory: fetched, checked and named by content.

A module is a program that TensorFlow runs: load those you trust, and pin them by their SHA-256.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from progan_service.sources.tfhub.archive import unpack
from progan_service.sources.tfhub.download import download
from progan_service.sources.tfhub.handle import parse_handle
from progan_service.sources.tfhub.limits import DEFAULT_LIMITS, HubModuleError, Limits, Progress, check_limits
from progan_service.store.digests import digest_of, sha256_of

SAVED_MODEL_FILE = "saved_model.pb"

_SHARD = re.compile(r"variables/variables\.data-[0-9]{5}-of-([0-9]{5})")


@dataclass(frozen=True)
class Fetched:
    """The checked files of a module.

    directory   holds saved_model.pb and variables/
    origin      the handle without its query, or the name of the local file or directory
    sha256      of the content: over the lines "name sha256" of its files, sorted by name
    """

    directory: Path
    origin: str
    sha256: str


def fetch(
    source: str, directory: Path, *, sha256: str = "", progress: Progress, limits: Limits = DEFAULT_LIMITS
) -> Fetched:
    """Fetch a module and check its files.

    source     a handle: https://tfhub.dev/PUBLISHER/MODEL/VERSION, a versioned model page of Kaggle or the address of
               a .tar.gz (plain http only of this machine, or pinned); or a local .tar.gz, .tgz or .tar, or an unpacked
               module, which is read in place
    directory  a downloaded or unpacked module goes into a new directory below it; the caller removes it
    sha256     the SHA-256 of the content that it must have; for a local archive, also that of the archive itself
    progress   called with (stage, bytes so far, bytes in all, or 0 while that is unknown)

    Raises HubModuleError; OSError when `directory` cannot be written.
    """
    pin, path = parse_pin(sha256), Path(source)
    if "://" in source:
        handle = parse_handle(source, pinned=bool(pin))
        origin, found = handle.partition("?")[0], download(handle, _private(directory), limits, progress)
    elif path.is_dir():
        origin, found = path.resolve().name, path
    else:
        origin, found = path.name, _unpacked(path, directory, limits, progress)
    root = _root(source, found)
    digest = digest_of({name: sha256_of(file) for name, file in _module_files(source, root, limits).items()})
    if pin and pin != digest and not (path.is_file() and pin == sha256_of(path)):
        raise HubModuleError(f"{source}: has the content SHA-256 {digest}, not {pin}; it is another module, or damaged")
    return Fetched(root, origin, digest)


def _unpacked(archive: Path, directory: Path, limits: Limits, progress: Progress) -> Path:
    """Unpack a local archive into a new directory below `directory`, and return it."""
    if not archive.is_file():
        problem = "is neither a file nor a directory" if archive.exists() else "no such file or directory"
        raise HubModuleError(f"{archive}: {problem}; give a handle (https://...), a .tar.gz or an unpacked module")
    found = _private(directory)
    unpack(archive, found, limits, progress)
    return found


def parse_pin(sha256: str) -> str:
    """Return a SHA-256 as 64 lower-case hexadecimal digits, or "" if none is given. Raises HubModuleError."""
    pin = sha256.strip().lower().removeprefix("sha256:")
    if pin and not re.fullmatch("[0-9a-f]{64}", pin):
        raise HubModuleError(f"sha256 is {sha256!r}: must be 64 hexadecimal digits")
    return pin


def _private(directory: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix="module-", dir=directory))


def _root(source: str, directory: Path) -> Path:
    """Return the directory of saved_model.pb: the given one, or the only directory in it that holds the file."""
    if (directory / SAVED_MODEL_FILE).is_file():
        return directory
    found = [file.parent for file in directory.glob(f"*/{SAVED_MODEL_FILE}")]
    if len(found) != 1:
        raise HubModuleError(
            f"{source}: holds no {SAVED_MODEL_FILE}; it is no TF Hub module, or half of one; get it again"
        )
    return found[0]


def _module_files(source: str, root: Path, limits: Limits) -> dict[str, Path]:
    """Return the files by name. Raises HubModuleError unless they are a complete module of plain files."""
    files, size = {}, 0
    for count, path in enumerate(root.rglob("*"), start=1):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or not name.isprintable():
            raise HubModuleError(
                f"{source}: {name!r} is a link, a device or has a strange name; a module has files only"
            )
        if path.is_file():
            files[name] = path
            size += path.stat().st_size
        check_limits(source, count, size, limits)
    _check_whole(source, files)
    return files


def _check_whole(source: str, files: Mapping[str, Path]) -> None:
    shards = [match for match in map(_SHARD.fullmatch, files) if match]
    if not shards or "variables/variables.index" not in files or len(shards) != int(shards[0][1]):
        raise HubModuleError(f"{source}: its variables/ are not all there; it is half a module; get it again")
    for name in (SAVED_MODEL_FILE, "variables/variables.index"):
        if not files[name].stat().st_size:
            raise HubModuleError(f"{source}: {name} is empty; it is half a module; get it again")
