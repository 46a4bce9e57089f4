"""The files of a TF Hub module, from its handle, an archive or a directory: got, checked and named by their content.

tensorflow-hub checks nothing that it downloads, and trusts whatever lies in its cache. So `hub.resolve` runs with an
empty cache of its own, in a process of its own (`python -m progan_service.sources.tfhub.fetch`) that is watched and
ended at a limit; what it brings has to be whole, and what was asked for.

A module is a program that TensorFlow runs: load those you trust, and pin them by their SHA-256.
"""

import gzip
import json
import os
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from progan_service.errors import BadInputError
from progan_service.store.digests import digest_of, sha256_of

SAVED_MODEL_FILE = "saved_model.pb"

_SHARD = re.compile(r"variables/variables\.data-[0-9]{5}-of-([0-9]{5})")
_KAGGLE_HOSTS = ("kaggle.com", "www.kaggle.com")
_KAGGLE_MODEL = re.compile(
    r"/models/[^/]+/[^/]+/([^/]+/[^/]+/[0-9]+|frameworks/[^/]+/variations/[^/]+/versions/[0-9]+)/?"
)
_BY_HAND = "download the .tar.gz of the module in a browser and give that file"
_INSTALL = "install it with the extra `hub`: pip install 'progan-service[hub]'"
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, FileExistsError, NotADirectoryError)
_POLL_S = 0.1

Progress = Callable[[str, int, int], None]


class HubModuleError(BadInputError):
    """A TF Hub module that cannot be had or cannot be used; the message names it, the rule and what to do."""


@dataclass(frozen=True)
class Limits:
    """What getting a module may take; the paper's largest generator has 92 MB of weights.

    total_bytes   of all its files, unpacked
    files         of it, directories counted as well
    idle_s        seconds in which a download must bring something
    """

    total_bytes: int = 2 * 2**30
    files: int = 1000
    idle_s: float = 120.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Fetched:
    """A module's files, checked.

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
    """Get a module.

    source     a handle: https://tfhub.dev/PUBLISHER/MODEL/VERSION, a versioned model page of Kaggle or the address of
               a .tar.gz (plain http only of this machine, or pinned); or a local .tar.gz, .tgz or .tar, or an unpacked
               module, which is read in place
    directory  where a downloaded or unpacked module goes, under a fresh private name; the caller removes it
    sha256     the content it must have; for a local archive, that of the archive itself will do
    progress   called with (stage, bytes so far, bytes in all, or 0 while that is unknown)

    Raises HubModuleError; OSError when `directory` cannot be written.
    """
    pin, path, accepted = parse_pin(sha256), Path(source), set()
    if "://" in source:
        handle = _handle(source, pinned=bool(pin))
        origin = handle.partition("?")[0]
        found = _download(handle, _private(directory), limits, progress)
    elif path.is_dir():
        origin, found = path.resolve().name, path
    elif path.is_file():
        origin, found = path.name, _private(directory)
        unpack(path, found, limits, progress)
        accepted.add(sha256_of(path))
    else:
        problem = "is neither a file nor a directory" if path.exists() else "no such file or directory"
        raise HubModuleError(f"{source}: {problem}; give a handle (https://...), a .tar.gz or an unpacked module")
    root = _root(source, found)
    digest = digest_of({name: sha256_of(file) for name, file in _module_files(source, root, limits).items()})
    if pin and pin not in accepted | {digest}:
        raise HubModuleError(f"{source}: has the content SHA-256 {digest}, not {pin}; it is another module, or damaged")
    return Fetched(root, origin, digest)


def parse_pin(sha256: str) -> str:
    """64 small hexadecimal digits, or empty. Raises HubModuleError."""
    pin = sha256.strip().lower().removeprefix("sha256:")
    if pin and not re.fullmatch("[0-9a-f]{64}", pin):
        raise HubModuleError(f"sha256 is {sha256!r}: must be 64 hexadecimal digits")
    return pin


def _private(directory: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix="module-", dir=directory))


# Handles


def _handle(source: str, *, pinned: bool) -> str:
    """The handle for tensorflow-hub."""
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise HubModuleError(f"{source}: is no address ({error}); give an https:// handle") from error
    if parts.scheme not in ("https", "http"):
        raise HubModuleError(f"{source}: {parts.scheme}:// is not supported; give an https:// handle")
    if not parts.hostname or "@" in parts.netloc:
        raise HubModuleError(f"{source}: must name a host, and neither user nor password")
    if parts.scheme == "http" and not pinned and not _is_loopback(parts.hostname):
        raise HubModuleError(
            f"{source}: nothing proves what plain http brings; give the https:// handle, or the content's --sha256"
        )
    if parts.hostname in _KAGGLE_HOSTS:
        if not _KAGGLE_MODEL.fullmatch(parts.path):
            raise HubModuleError(
                f"{source}: names no version of a model on Kaggle; its page ends with "
                "/models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION"
            )
        parts = parts._replace(query="")  # what the pages add for themselves
    return parts._replace(fragment="").geturl()


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


# Downloads


def _download(handle: str, cache: Path, limits: Limits, progress: Progress) -> Path:
    """The module's files, below `cache`."""
    if find_spec("tensorflow_hub") is None:
        raise HubModuleError(f"{handle}: tensorflow-hub is not there, which finds handles; {_INSTALL}")
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, handle, str(limits.total_bytes)]
    answer = run_watched(handle, command, cache, limits, progress)
    try:
        outcome = json.loads(answer)
    except ValueError:
        raise HubModuleError(
            f"{handle}: the download ended without a word, for lack of memory perhaps; try again"
        ) from None
    if "problem" in outcome:
        raise HubModuleError(f"{handle}: {outcome['problem']}")
    return Path(outcome["path"])


def run_watched(name: str, command: list[str], cache: Path, limits: Limits, progress: Progress) -> str:
    """Run a command that fills the directory `cache`, the hub's cache to it, and give what it prints.

    Raises HubModuleError, the command ended, when the directory passes a limit or does not grow for too long.
    """
    environment = {variable: value for variable, value in os.environ.items() if not variable.startswith("TFHUB_")}
    environment |= {"TFHUB_CACHE_DIR": str(cache), "TFHUB_MODEL_LOAD_FORMAT": "COMPRESSED", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            _watch(name, child, cache, limits, progress)
            return child.communicate()[0]
        finally:
            child.kill()


def _watch(name: str, child: subprocess.Popen[str], cache: Path, limits: Limits, progress: Progress) -> None:
    """Return when the child has ended. Raises HubModuleError as soon as it must be ended."""
    size, grown_at, ended = 0, time.monotonic(), False
    while not ended:
        with suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_S)
            ended = True
        count, size_now = _measure(cache)
        _check_limits(name, count, size_now, limits)
        if size_now != size:
            size, grown_at = size_now, time.monotonic()
            progress("downloading", size, 0)
        elif time.monotonic() - grown_at > limits.idle_s and not ended:
            raise HubModuleError(f"{name}: nothing came for {limits.idle_s:g} s; try again later, or {_BY_HAND}")


def _measure(directory: Path) -> tuple[int, int]:
    """How many files and directories there are, and their bytes; what goes away meanwhile is passed over."""
    count = size = 0
    for folder, folders, files in os.walk(directory):
        count += len(folders) + len(files)
        for file in files:
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(folder, file)).st_size
    return count, size


def _check_limits(source: object, count: int, size: int, limits: Limits) -> None:
    if count > limits.files:
        raise HubModuleError(f"{source}: has more than {limits.files} files and directories; a module has a handful")
    if size > limits.total_bytes:
        raise HubModuleError(
            f"{source}: takes more than {limits.total_bytes} bytes unpacked, the most that a module may have"
        )


def resolve(handle: str, most_bytes: int) -> dict[str, str]:
    """Run `hub.resolve`: {"path": the module's directory in the cache}, or {"problem": what failed and what to do}.

    For a process of its own: from here on it writes no file of more than `most_bytes`.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        import tensorflow_hub

        return {"path": str(tensorflow_hub.resolve(handle))}
    except Exception as error:  # of urllib, ssl, tarfile, TensorFlow or hub itself
        return {"problem": _problem(error, most_bytes)}


def _problem(error: Exception, most_bytes: int) -> str:
    text = str(error).partition("\n")[0]
    match error:
        case ImportError():
            return f"tensorflow-hub cannot be imported ({text}); {_INSTALL}"
        case HTTPError(code=401 | 403):
            return (
                f"the server answers {error.code} {error.reason}, it does not give this module to programs; {_BY_HAND}"
            )
        case HTTPError(code=404 | 410):
            return f"the server answers {error.code} {error.reason}; check owner, name and version of the model"
        case HTTPError():
            reason = str(error.reason).partition("\n")[0]
            return f"the server answers {error.code} {reason}; try again later, or {_BY_HAND}"
        case URLError(reason=socket.gaierror()):
            return f"no such host, or no network here; check the handle, or {_BY_HAND}"
        case URLError(reason=ConnectionRefusedError()):
            return f"the server refuses the connection; try again later, or {_BY_HAND}"
        case URLError(reason=ssl.SSLCertVerificationError() as reason):
            return f"the server cannot prove who it is ({reason.verify_message}); mind a proxy, or {_BY_HAND}"
        case URLError():
            return f"the server cannot be reached ({error.reason}); try again later, or {_BY_HAND}"
        case ConnectionError():
            return f"the connection broke off ({text}); try again"
        case OSError(__context__=tarfile.ReadError(args=("unexpected end of data" | "invalid compressed data",))):
            return "the archive breaks off or is damaged; try again"
        case OSError(__context__=tarfile.ReadError()):
            return f"what came is no archive but a web page perhaps, of a proxy or to log in; {_BY_HAND}"
        case ValueError() if text.startswith("Unexpected object type"):
            return "the archive holds a link or a device; a module has files only"
        case ValueError() if text.startswith("Relative path"):
            return "the archive names a file outside of the module; do not trust where it came from"
    if text.endswith("File too large"):
        return f"a file of it takes more than {most_bytes} bytes unpacked, the most that a module may have"
    return f"the download failed ({type(error).__name__}: {text}); try again, or {_BY_HAND}"


# Archives


class _Bounded:
    """An archive's content as a stream that ends in HubModuleError past the limit, whatever it unpacks to."""

    def __init__(self, content: IO[bytes], archive: Path, limits: Limits) -> None:
        self.content, self.archive, self.limits = content, archive, limits
        self.given = -limits.files * 4 * tarfile.BLOCKSIZE  # a few headers and the padding of each file do not count
        self.last_block = b""

    def read(self, size: int) -> bytes:
        content = self.content.read(size)
        self.given += len(content)
        _check_limits(self.archive, 0, self.given, self.limits)
        self.last_block = (self.last_block + content)[-tarfile.BLOCKSIZE :]
        return content


def unpack(archive: Path, directory: Path, limits: Limits, progress: Progress) -> None:
    """Unpack a .tar, or a .tar.gz, into an empty directory.

    Raises HubModuleError for a damaged archive, one past the limits, or one with anything but plain files inside it.
    """
    try:
        with archive.open("rb") as file, _decompressed(file) as content:
            bounded = _Bounded(content, archive, limits)
            with tarfile.open(fileobj=bounded, mode="r|") as members:  # type: ignore[call-overload]
                for count, member in enumerate(members, start=1):
                    _check_limits(archive, count, member.size, limits)
                    _unpack_member(archive, members, member, directory)
                    progress("unpacking", file.tell(), archive.stat().st_size)
            while bounded.read(2**20):  # to the end, where a .gz has its checksum
                pass
            if any(bounded.last_block):  # an archive ends with zeros; the library does not miss them
                raise tarfile.ReadError("unexpected end of data")
    except HubModuleError:
        raise
    except _DAMAGED as error:
        raise HubModuleError(
            f"{archive}: is no .tar.gz, or breaks off or is damaged ({error}); get it again"
        ) from error


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return gzip.open(file) if compressed else file  # type: ignore[return-value]


def _unpack_member(archive: Path, members: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise HubModuleError(
            f"{archive}: names {member.name!r}, outside of the module; do not trust where it came from"
        )
    if member.isdir():
        (directory / name).mkdir(parents=True, exist_ok=True)
        return
    content = members.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise HubModuleError(f"{archive}: {member.name!r} is a link or a device; a module has files only")
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    with (directory / name).open("xb") as file:
        shutil.copyfileobj(content, file)


# What a module must be


def _root(source: str, directory: Path) -> Path:
    """Where saved_model.pb is: in the directory itself, or in the only one in it that has one."""
    if (directory / SAVED_MODEL_FILE).is_file():
        return directory
    found = [file.parent for file in directory.glob(f"*/{SAVED_MODEL_FILE}")]
    if len(found) != 1:
        raise HubModuleError(
            f"{source}: holds no {SAVED_MODEL_FILE}; it is no TF Hub module, or half of one; get it again"
        )
    return found[0]


def _module_files(source: str, root: Path, limits: Limits) -> dict[str, Path]:
    """The files by their names. Raises HubModuleError for what is no whole module of plain files."""
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
        _check_limits(source, count, size, limits)
    _check_whole(source, files)
    return files


def _check_whole(source: str, files: Mapping[str, Path]) -> None:
    shards = [match for match in map(_SHARD.fullmatch, files) if match]
    if not shards or "variables/variables.index" not in files or len(shards) != int(shards[0][1]):
        raise HubModuleError(f"{source}: its variables/ are not all there; it is half a module; get it again")
    for name in (SAVED_MODEL_FILE, "variables/variables.index"):
        if not files[name].stat().st_size:
            raise HubModuleError(f"{source}: {name} is empty; it is half a module; get it again")


if __name__ == "__main__":
    print(json.dumps(resolve(sys.argv[1], int(sys.argv[2]))))
