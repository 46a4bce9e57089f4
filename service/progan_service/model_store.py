"""The model store: <root>/<model>/<version>/, each version a SavedModel with a `progan.json` inside it.

The layout is TensorFlow Serving's. Versions are whole numbers, rising; a version appears by one rename, so a reader
never meets half of one. What an operator decided about the versions of a model is in <root>/<model>/rollout.json.
Needs no TensorFlow.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

from progan_service.durable import sync
from progan_service.errors import BadInputError

METADATA_FILE = "progan.json"
ROLLOUT_FILE = "rollout.json"
RESERVED_LABELS = ("latest", "pinned", "serves")  # words for what a version is used for
FORMAT_VERSION = 1
FLOAT_SIGNATURE = "serving_default"
UINT8_SIGNATURE = "generate_uint8"
BFLOAT16_SIGNATURE = "generate_uint8_bfloat16"  # nearly the same images, by half-width arithmetic
ON_CPU = "_cpu"  # at the end of a signature: the same images, by the algorithms that CPUs are soonest with
DIFFERENTIABLE_SIGNATURE = "differentiable"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_INCOMING, _REMOVED = ".incoming-", ".removed-"
_ABANDONED_S = 24 * 3600

Fingerprint = tuple[tuple[str, int, int], ...]  # name, size and change time of every file: another one, another try


class ModelStoreError(BadInputError):
    """Something in the store is missing, damaged or misnamed; the message names it and the rule."""


class DamagedVersionError(ModelStoreError):
    """The files of a version are not what was published; while it is still being copied, not yet."""


@dataclass(frozen=True)
class ModelMetadata:
    """What `progan.json` says of a version.

    latent_size, resolution, channels   sizes of inputs and images
    label_count, label_names            0 and none without labels
    provenance                          where the version came from and how it was trained
    golden                              seed -> PNG of the seed's image, relative to the version
    files                               SHA-256 of every other file, by relative path
    signatures                          of the SavedModel
    bfloat16_psnr_db                    how near BFLOAT16_SIGNATURE's golden images are to UINT8_SIGNATURE's; None
                                        without it
    algorithms                          of the signatures that end with ON_CPU, by layer
    """

    latent_size: int
    resolution: int
    channels: int
    label_count: int = 0
    label_names: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    golden: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    signatures: tuple[str, ...] = (FLOAT_SIGNATURE, UINT8_SIGNATURE, DIFFERENTIABLE_SIGNATURE)
    format_version: int = FORMAT_VERSION
    bfloat16_psnr_db: float | None = None
    algorithms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("latent_size", 1), ("resolution", 1), ("channels", 1), ("label_count", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}, not a whole number from {least} on")
        for name in ("provenance", "golden", "files", "algorithms"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} is {getattr(self, name)!r}, not an object of names and values")
        if not isinstance(self.bfloat16_psnr_db, int | float | None):
            raise ValueError(f"bfloat16_psnr_db is {self.bfloat16_psnr_db!r}, neither a number nor null")
        for file in (*self.files, *self.golden.values()):
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"{file!r} is not the name of a file within the version")

    @cached_property
    def digest(self) -> str:
        """Names the version's content: "sha256:" and the hash over the names and hashes of its files."""
        return f"sha256:{digest_of(self.files)}"

    @property
    def source(self) -> str:
        """Where the version comes from, in a line, as far as its provenance says so."""
        known = [self.provenance.get(name) for name in ("source", "origin")]
        line = " ".join(text for text in known if isinstance(text, str))
        shown = self.provenance.get("images_shown")
        if not isinstance(shown, int | float) or not 0 <= shown < 2**53:
            return line
        return f"{line}, {shown / 1000:.1f} kimg"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, TypeError or KeyError for anything `to_json` does not write."""
        document = json.loads(text)
        if document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version is {document['format_version']}, this release reads {FORMAT_VERSION}")
        document["label_names"] = tuple(document["label_names"])
        document["signatures"] = tuple(document["signatures"])
        return cls(**document)


@dataclass(frozen=True)
class Rollout:
    """What an operator decided about the versions of a model.

    pinned    the version that answers requests which name none; 0: the newest good one
    labels    names for versions, "stable" and "canary" say, by which requests can ask for them
    """

    pinned: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.labels, Mapping):
            raise ModelStoreError(f"labels is {self.labels!r}: must be an object of names and versions")
        for label in self.labels:
            if not _LABEL.fullmatch(label):
                raise ModelStoreError(
                    f"label is {label!r}: must be 1 to 63 small letters, digits, dashes or underscores, "
                    "beginning with a letter"
                )
            if label in RESERVED_LABELS:
                raise ModelStoreError(f"label is {label!r}: must be none of {', '.join(RESERVED_LABELS)}")
        for what, version in (("pinned", self.pinned), *self.labels.items()):
            if type(version) is not int or version < (0 if what == "pinned" else 1):
                raise ModelStoreError(f"{what} is {version!r}: must be a version")

    @property
    def versions(self) -> set[int]:
        """Those it speaks of."""
        return {self.pinned, *self.labels.values()} - {0}

    def problem(self, versions: Collection[int]) -> str:
        """What it speaks of that is not among the versions of the store; empty when all is there."""
        named = [(f"version {self.pinned} is pinned", self.pinned)] if self.pinned else []
        named += [(f"label {label!r} is version {version}", version) for label, version in self.labels.items()]
        gone = [what for what, version in named if version not in versions]
        return f"{' and '.join(gone)}, and not in the store" if gone else ""


class ModelStore:
    """A model store in a local directory."""

    def __init__(self, root: Path) -> None:
        """Raises ModelStoreError when the directory does not exist."""
        if not root.is_dir():
            problem = "is not a directory" if root.exists() else "no such directory"
            raise ModelStoreError(f"{root}: {problem}; a model store is a directory of models")
        self.root = root

    def models(self) -> list[str]:
        """Names of the models that have a version, sorted."""
        return sorted(d.name for d in self.root.iterdir() if MODEL_NAME.fullmatch(d.name) and self.versions(d.name))

    def versions(self, name: str) -> list[int]:
        """Versions of a model, newest first; what is no version (a partial copy, say) is passed over."""
        directory = self.root / name
        entries = directory.iterdir() if directory.is_dir() else ()
        found = (int(d.name) for d in entries if d.is_dir() and VERSION.fullmatch(d.name))
        return sorted(found, reverse=True)

    def path(self, name: str, version: int) -> Path:
        return self.root / name / str(version)

    def metadata(self, name: str, version: int) -> ModelMetadata:
        """Raises DamagedVersionError when progan.json is missing or is not one."""
        path = self.path(name, version) / METADATA_FILE
        try:
            return ModelMetadata.from_json(path.read_text())
        except FileNotFoundError:
            raise DamagedVersionError(f"{path}: missing; every version needs one") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DamagedVersionError(f"{path}: not readable as model metadata ({error})") from error

    def verify(self, name: str, version: int) -> ModelMetadata:
        """The metadata, once every file has proved to be the one that was published; else DamagedVersionError."""
        metadata, path = self.metadata(name, version), self.path(name, version)
        found = _hashes(path)
        for file in sorted(metadata.files.keys() | found.keys()):
            if file not in found:
                raise DamagedVersionError(f"{path / file}: missing, but listed in {METADATA_FILE}")
            if file not in metadata.files:
                raise DamagedVersionError(f"{path / file}: not listed in {METADATA_FILE}")
            if found[file] != metadata.files[file]:
                raise DamagedVersionError(f"{path / file}: differs from what was published (SHA-256 {found[file]})")
        return metadata

    def fingerprint(self, name: str, version: int) -> Fingerprint:
        """Changes when a file of the version does; reads no file's content."""
        path = self.path(name, version)
        found = ((file, file.stat()) for file in sorted(path.rglob("*")))
        return tuple((str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns) for file, stat in found)

    def rollout(self, name: str) -> Rollout:
        """Raises ModelStoreError when rollout.json is there and is not one."""
        path = self.root / name / ROLLOUT_FILE
        try:
            return Rollout(**json.loads(path.read_text()))
        except FileNotFoundError:
            return Rollout()
        except (OSError, ValueError, TypeError, ModelStoreError) as error:
            raise ModelStoreError(f"{path}: not readable as a rollout ({error})") from error

    def set_rollout(self, name: str, rollout: Rollout) -> None:
        """Servers that watch the store act on it. Raises ModelStoreError for a model or version that is not there."""
        self.require(name)
        for version in rollout.versions:
            self.require(name, version)
        path = self.root / name / ROLLOUT_FILE
        partial = path.with_name(f".{ROLLOUT_FILE}-{os.getpid()}")
        partial.write_text(json.dumps(asdict(rollout), indent=2) + "\n")
        sync(partial)
        partial.replace(path)
        sync(path.parent)

    def require(self, name: str, version: int = 0) -> None:
        """Raises ModelStoreError when the model, or that version of it, is not there; the message tells what is."""
        if name not in self.models():
            raise ModelStoreError(
                f"{self.root}: holds no model {name!r}; it holds: {', '.join(self.models()) or 'none'}"
            )
        if version and version not in self.versions(name):
            known = ", ".join(map(str, self.versions(name)))
            raise ModelStoreError(f"{self.root}: model {name!r} has no version {version}; it has: {known}")

    def superfluous(self, name: str, keep: int) -> list[int]:
        """Versions older than the `keep` newest good ones, newest first, but for the pinned and the labelled."""
        good = 0
        superfluous = []
        kept = self.rollout(name).versions
        for version in self.versions(name):
            if good >= keep:
                superfluous += [version] if version not in kept else []
            else:
                good += self._is_whole(name, version)
        return superfluous

    def remove(self, name: str, version: int) -> None:
        """Take a version out of the store: at once for readers, by one rename."""
        removed = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=self.root))
        self.path(name, version).rename(removed / str(version))
        shutil.rmtree(removed)

    def remove_abandoned(self) -> int:
        """Remove what killed processes left half-written more than a day ago; how many directories that were."""
        abandoned = [
            directory
            for directory in self.root.iterdir()
            if directory.name.startswith((_INCOMING, _REMOVED))
            and time.time() - directory.stat().st_mtime > _ABANDONED_S
        ]
        for directory in abandoned:
            shutil.rmtree(directory)
        return len(abandoned)

    def _is_whole(self, name: str, version: int) -> bool:
        try:
            self.verify(name, version)
        except ModelStoreError:
            return False
        return True

    def publish(self, name: str, write: Callable[[Path], ModelMetadata]) -> int:
        """Make the next version of a model and return its number; it appears whole or not at all.

        write   fills an empty directory with a SavedModel and returns its metadata, `files` left out
        Raises ModelStoreError for a name that is no plain directory name.
        """
        check_model_name(name)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.root))
        try:
            metadata = write(incoming)
            complete = replace(metadata, files=_hashes(incoming))
            (incoming / METADATA_FILE).write_text(complete.to_json())
            incoming.chmod(0o755)
            for path in (*incoming.rglob("*"), incoming):
                sync(path)
            version = self._rename_to_next(name, incoming)
            sync(self.root / name)
            return version
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _rename_to_next(self, name: str, incoming: Path) -> int:
        (self.root / name).mkdir(exist_ok=True)
        version = max(self.versions(name), default=0) + 1
        while True:
            try:
                incoming.rename(self.path(name, version))
                return version
            except OSError:
                if not self.path(name, version).exists():
                    raise
                version += 1  # taken: another publisher was first


def check_model_name(name: str) -> None:
    """Raises ModelStoreError for a name that is no plain directory name."""
    if not MODEL_NAME.fullmatch(name):
        raise ModelStoreError(
            f"model name is {name!r}: must be 1 to 63 letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit"
        )


def digest_of(hashes: Mapping[str, str]) -> str:
    """Names the content of files: SHA-256, in hexadecimal, over the lines "name hash", sorted by name."""
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256_of(file: Path) -> str:
    """In hexadecimal. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hashes(version: Path) -> dict[str, str]:
    files = sorted(f for f in version.rglob("*") if f.is_file() and f != version / METADATA_FILE)
    return {f.relative_to(version).as_posix(): sha256_of(f) for f in files}
