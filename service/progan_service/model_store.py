"""The model store: <root>/<model>/<version>/, each version a SavedModel with a `progan.json` inside it.

The layout is TensorFlow Serving's. Versions are whole numbers, rising; a version appears by one rename, so a reader
never meets half of one. Needs no TensorFlow.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from progan_service.durable import sync
from progan_service.errors import BadInputError

METADATA_FILE = "progan.json"
FORMAT_VERSION = 1
FLOAT_SIGNATURE = "serving_default"
UINT8_SIGNATURE = "generate_uint8"
DIFFERENTIABLE_SIGNATURE = "differentiable"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ModelStoreError(BadInputError):
    """Something in the store is missing, damaged or misnamed; the message names it and the rule."""


@dataclass(frozen=True)
class ModelMetadata:
    """What `progan.json` says of a version.

    latent_size, resolution, channels   sizes of inputs and images
    label_count, label_names            0 and none without labels
    provenance                          where the version came from and how it was trained
    golden                              seed -> PNG of the seed's image, relative to the version
    files                               SHA-256 of every other file, by relative path
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

    def __post_init__(self) -> None:
        for name, least in (("latent_size", 1), ("resolution", 1), ("channels", 1), ("label_count", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}, not a whole number from {least} on")
        for name in ("provenance", "golden", "files"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} is {getattr(self, name)!r}, not an object of names and values")

    @cached_property
    def digest(self) -> str:
        """Names the version's content: "sha256:" and the hash over the names and hashes of its files."""
        lines = "".join(f"{name} {self.files[name]}\n" for name in sorted(self.files))
        return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()

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
        return sorted(d.name for d in self.root.iterdir() if _NAME.fullmatch(d.name) and self.versions(d.name))

    def versions(self, name: str) -> list[int]:
        """Versions of a model, newest first; what is no version (a partial copy, say) is passed over."""
        directory = self.root / name
        entries = directory.iterdir() if directory.is_dir() else ()
        found = (int(d.name) for d in entries if d.is_dir() and re.fullmatch("[1-9][0-9]{0,17}", d.name))
        return sorted(found, reverse=True)

    def path(self, name: str, version: int) -> Path:
        return self.root / name / str(version)

    def metadata(self, name: str, version: int) -> ModelMetadata:
        """Raises ModelStoreError when progan.json is missing or is not one."""
        path = self.path(name, version) / METADATA_FILE
        try:
            return ModelMetadata.from_json(path.read_text())
        except FileNotFoundError:
            raise ModelStoreError(f"{path}: missing; every version needs one") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelStoreError(f"{path}: not readable as model metadata ({error})") from error

    def verify(self, name: str, version: int) -> ModelMetadata:
        """The metadata, once every file has proved to be the one that was published; else ModelStoreError."""
        metadata, path = self.metadata(name, version), self.path(name, version)
        found = _hashes(path)
        for file in sorted(metadata.files.keys() | found.keys()):
            if file not in found:
                raise ModelStoreError(f"{path / file}: missing, but listed in {METADATA_FILE}")
            if file not in metadata.files:
                raise ModelStoreError(f"{path / file}: not listed in {METADATA_FILE}")
            if found[file] != metadata.files[file]:
                raise ModelStoreError(f"{path / file}: differs from what was published (SHA-256 {found[file]})")
        return metadata

    def publish(self, name: str, write: Callable[[Path], ModelMetadata]) -> int:
        """Make the next version of a model and return its number; it appears whole or not at all.

        write   fills an empty directory with a SavedModel and returns its metadata, `files` left out
        Raises ModelStoreError for a name that is no plain directory name.
        """
        check_model_name(name)
        incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self.root))
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
    if not _NAME.fullmatch(name):
        raise ModelStoreError(
            f"model name is {name!r}: must be 1 to 63 letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit"
        )


def _hashes(version: Path) -> dict[str, str]:
    files = sorted(f for f in version.rglob("*") if f.is_file() and f != version / METADATA_FILE)
    return {f.relative_to(version).as_posix(): _sha256(f) for f in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
