"""The model store: <root>/<model>/<version>/, each version a SavedModel with a `progan.json` inside it.

The layout is that of TensorFlow Serving. Version numbers rise. A version appears by one rename, so a reader never sees
half of one. <root>/<model>/rollout.json holds the decisions of an operator about the versions of a model, and
<root>/default.json which model answers requests that name none. Needs no TensorFlow.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from progan_service.formats import FormatError, NewerFormatError
from progan_service.host.faults import named
from progan_service.host.files import (
    linked,
    move_into_place,
    partial_directory,
    partial_of,
    remove_partials,
    replaced,
    small_content,
    synced,
)
from progan_service.latents.inversion.guide import Guide
from progan_service.store.default import MAX_DEFAULT_BYTES, DefaultChoice
from progan_service.store.digests import sha256_of
from progan_service.store.directions import (
    DIRECTIONS_FILE,
    MAX_DIRECTIONS_BYTES,
    Direction,
    directions_from_json,
    directions_to_json,
)
from progan_service.store.errors import DamagedVersionError, ModelStoreError, UnreadableError
from progan_service.store.inversion import GUIDE_FILE, read_guide
from progan_service.store.metadata import MAX_METADATA_BYTES, METADATA_FILE, ModelMetadata
from progan_service.store.model_name import DEFAULT_FILE, MODEL_NAME, check_model_name
from progan_service.store.rollout import MAX_ROLLOUT_BYTES, ROLLOUT_FILE, Rollout

T = TypeVar("T")

VERSION = re.compile(r"[1-9][0-9]{0,17}")
_ABANDONED_S = 24 * 3600

Fingerprint = tuple[tuple[str, int, int], ...]  # name, size and change time of every file


class ModelStore:
    """A model store in a local directory."""

    def __init__(self, root: Path, *, check: bool = True) -> None:
        """Raises ModelStoreError when the directory does not exist; without `check` that is not looked at."""
        if check and not root.is_dir():
            problem = "is not a directory" if root.exists() else "no such directory"
            raise ModelStoreError(f"{root}: {problem}; a model store is a directory of models")
        self.root = root

    def models(self) -> list[str]:
        """Return the names of the models that have a version, sorted."""
        return [name for name in self.names() if self.versions(name)]

    def names(self) -> list[str]:
        """Return the names in the store that a model may have, sorted; not all need be models."""
        return sorted(name for name in os.listdir(self.root) if MODEL_NAME.fullmatch(name))

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model, newest first. Other entries, such as partial copies, are ignored."""
        directory = self.root / name
        entries = directory.iterdir() if directory.is_dir() else ()
        found = (int(d.name) for d in entries if VERSION.fullmatch(d.name) and d.is_dir())
        return sorted(found, reverse=True)

    @classmethod
    def of_version(cls, directory: Path) -> tuple["ModelStore", str, int]:
        """Return the store, the model and the number of a version <store>/<model>/<version>.

        Raises ModelStoreError for another directory.
        """
        directory = directory.resolve()
        store, name = cls(directory.parent.parent), directory.parent.name
        if directory.name not in map(str, store.versions(name)):
            raise ModelStoreError(
                f"{directory}: not in a model store; give STORE/MODEL/VERSION, VERSION a number from 1 on"
            )
        return store, name, int(directory.name)

    def path(self, name: str, version: int) -> Path:
        return self.root / name / str(version)

    def metadata(self, name: str, version: int) -> ModelMetadata:
        """Raises DamagedVersionError when progan.json is missing, damaged, or of a newer release.

        Raises UnreadableError when it cannot be read.
        """
        path = self.path(name, version) / METADATA_FILE
        parsed = _parsed(path, ModelMetadata.from_json, "model metadata", MAX_METADATA_BYTES, DamagedVersionError)
        if parsed is None:
            raise DamagedVersionError(f"{path}: missing; every version needs one")
        return parsed

    def verify(self, name: str, version: int) -> ModelMetadata:
        """Return the metadata if every file is the one that was published.

        Raises DamagedVersionError, and UnreadableError for a file that cannot be read.
        """
        metadata, path = self.metadata(name, version), self.path(name, version)
        with named(path, UnreadableError):
            found = _hashes(path)
        for file in sorted(metadata.files.keys() | found.keys()):
            if file not in found:
                raise DamagedVersionError(f"{path / file}: missing, but listed in {METADATA_FILE}")
            if file not in metadata.files:
                raise DamagedVersionError(f"{path / file}: not listed in {METADATA_FILE}")
            if found[file] != metadata.files[file]:
                raise DamagedVersionError(f"{path / file}: differs from what was published (SHA-256 {found[file]})")
        return metadata

    def directions(self, name: str, version: int) -> dict[str, Direction]:
        """Return the directions of a version by name; none for a version without that file.

        Raises ModelStoreError when the file is damaged or of a newer release, UnreadableError if unreadable.
        """
        metadata = self.metadata(name, version)
        if DIRECTIONS_FILE not in metadata.files:
            return {}
        path, parse = (
            self.path(name, version) / DIRECTIONS_FILE,
            partial(directions_from_json, latent_size=metadata.latent_size),
        )
        return _parsed(path, parse, "directions", MAX_DIRECTIONS_BYTES, ModelStoreError) or {}

    def guide(self, name: str, version: int) -> Guide | None:
        """Return what helps to find the latents of images; None for a version without that file.

        Raises ModelStoreError when the file is damaged or of a newer release, UnreadableError if unreadable.
        """
        metadata, path = self.metadata(name, version), self.path(name, version) / GUIDE_FILE
        if GUIDE_FILE not in metadata.files:
            return None
        try:
            with named(path, UnreadableError):
                return read_guide(path, metadata)
        except FormatError as error:
            raise ModelStoreError(f"{path}: {error}") from error

    def fingerprint(self, name: str, version: int) -> Fingerprint:
        """Changes when a file of the version does; reads no file's content."""
        path = self.path(name, version)
        with named(path):
            found = [(file, file.stat()) for file in sorted(path.rglob("*"))]
        return tuple((str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns) for file, stat in found)

    def rollout(self, name: str) -> Rollout:
        """Raises ModelStoreError when rollout.json is damaged or of a newer release, UnreadableError if unreadable."""
        path = self.root / name / ROLLOUT_FILE
        return _parsed(path, Rollout.from_json, "a rollout", MAX_ROLLOUT_BYTES, ModelStoreError) or Rollout()

    def set_rollout(self, name: str, rollout: Rollout) -> None:
        """Write the rollout; servers that watch the store follow it. Raises ModelStoreError for an unknown version."""
        self.require(name)
        for version in rollout.versions:
            self.require(name, version)
        with replaced(self.root / name / ROLLOUT_FILE) as partial:
            partial.write_text(rollout.to_json())

    def default(self) -> DefaultChoice:
        """Raises ModelStoreError when default.json is damaged or of a newer release, UnreadableError if unreadable."""
        path = self.root / DEFAULT_FILE
        read = _parsed(path, DefaultChoice.from_json, "a default model", MAX_DEFAULT_BYTES, ModelStoreError)
        return read or DefaultChoice()

    def default_problem(self) -> str:
        """Return why requests that name no model cannot be answered, as a sentence; empty when they can be."""
        try:
            problem = self.default().problem(self.models())
        except ModelStoreError as error:
            return str(error)
        return f"{problem}; to choose one: progan models default NAME --store {self.root}" if problem else ""

    def set_default(self, name: str) -> None:
        """Let a model answer requests that name none; servers that watch the store follow it. Mends a damaged file.

        Raises ModelStoreError for an unknown model, and for a file of a newer release.
        """
        self.require(name)
        try:
            chosen = replace(self.default(), model=name)
        except ModelStoreError as error:
            if isinstance(error.__cause__, NewerFormatError):
                raise
            chosen = DefaultChoice(name)
        with replaced(self.root / DEFAULT_FILE) as partial:
            partial.write_text(chosen.to_json())

    def require(self, name: str, version: int = 0) -> None:
        """Raise ModelStoreError, naming what is there, unless the store has the model, and the version if given."""
        if name not in self.models():
            raise ModelStoreError(
                f"{self.root}: holds no model {name!r}; it holds: {', '.join(self.models()) or 'none'}"
            )
        if version and version not in self.versions(name):
            known = ", ".join(map(str, self.versions(name)))
            raise ModelStoreError(f"{self.root}: model {name!r} has no version {version}; it has: {known}")

    def superfluous(self, name: str, keep: int) -> list[int]:
        """Return the versions older than the `keep` newest good ones, newest first, without the pinned and labelled."""
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
        """Remove a version; it disappears by one rename, so no reader sees half of it. Raises FileError."""
        path, removed = self.path(name, version), partial_of(self.root / f"{name}-{version}")
        with named(path):
            os.utime(path)  # its age as a partial directory counts from now
            path.rename(removed)
            shutil.rmtree(removed)

    def remove_abandoned(self) -> int:
        """Remove the partial files and directories that killed processes left more than a day ago; return how many."""
        with named(self.root):
            return remove_partials(self.root, _ABANDONED_S)

    def _is_whole(self, name: str, version: int) -> bool:
        try:
            self.verify(name, version)
        except ModelStoreError:
            return False
        return True

    def serving(self, name: str) -> int:
        """Return the version that answers requests which name none: the pinned one, else the newest whole one; or 0.

        Raises ModelStoreError when rollout.json is damaged.
        """
        return self.rollout(name).pinned or next((v for v in self.versions(name) if self._is_whole(name, v)), 0)

    def publish(self, name: str, write: Callable[[Path], ModelMetadata], *, label: str = "", serve: bool = True) -> int:
        """Make the next version of a model and return its number. It appears whole or not at all.

        write   fills an empty directory with a SavedModel and returns its metadata without `files`
        label   a label for the version; another version loses it
        serve   False: the version that serves is pinned before the new one appears, and so goes on serving
        Raises ModelStoreError for a bad name or label, or when none serves that could go on; FileError when the version
        cannot be written.
        """
        check_model_name(name)
        self.check_rollout(name, label=label, serve=serve)
        with partial_directory(self.root / name) as partial:
            metadata = write(partial)
            complete = replace(metadata, files=_hashes(partial))
            (partial / METADATA_FILE).write_text(complete.to_json())
            if not serve:
                self.set_rollout(name, replace(self.rollout(name), pinned=self.serving(name)))
            try:
                version = self._move_to_next(name, partial)
            except OSError:
                with suppress(OSError):  # it has versions
                    (self.root / name).rmdir()
                raise
        if label:
            rollout = self.rollout(name)
            self.set_rollout(name, replace(rollout, labels={**rollout.labels, label: version}))
        return version

    def publish_directions(self, name: str, version: int, directions: Iterable[Direction]) -> int:
        """Publish a version once more, with these directions instead of its own, and return the new number.

        Its other files are links to those of the version, so they take no room.
        Raises DamagedVersionError for a damaged version, FormatError for directions that no server would read.
        """
        metadata, path = self.verify(name, version), self.path(name, version)
        content = directions_to_json(directions)

        def write(directory: Path) -> ModelMetadata:
            for file in metadata.files.keys() - {DIRECTIONS_FILE}:
                linked(path / file, directory / file)
            (directory / DIRECTIONS_FILE).write_text(content)
            return metadata

        return self.publish(name, write)

    def check_rollout(self, name: str, *, label: str, serve: bool) -> None:
        """Raise ModelStoreError unless the next version can have this label, and this one go on serving if it must."""
        rollout = self.rollout(name)
        if label:
            replace(rollout, labels={label: 1})
        if not serve and not self.serving(name):
            raise ModelStoreError(f"{self.root}: model {name!r} has no good version yet that could go on serving")

    def _move_to_next(self, name: str, partial: Path) -> int:
        (self.root / name).mkdir(exist_ok=True)
        synced(self.root)
        version = max(self.versions(name), default=0) + 1
        while True:
            try:
                move_into_place(partial, self.path(name, version))
                return version
            except OSError:
                if not self.path(name, version).exists():
                    raise
                version += 1  # taken: another publisher was first


def _hashes(version: Path) -> dict[str, str]:
    files = sorted(f for f in version.rglob("*") if f.is_file() and f != version / METADATA_FILE)
    return {f.relative_to(version).as_posix(): sha256_of(f) for f in files}


def _parsed(
    path: Path, parse: Callable[[bytes], T], what: str, max_bytes: int, kind: type[ModelStoreError]
) -> T | None:
    """Return what a file of the store contains, None if there is no such file.

    Raises UnreadableError, and `kind` for what is no small file or does not parse.
    """
    try:
        with named(path, UnreadableError):
            content = small_content(path, max_bytes)
        return None if content is None else parse(content)
    except UnreadableError:
        raise
    except ValueError as error:
        reason = str(error) if isinstance(error, NewerFormatError) else f"not readable as {what} ({error})"
        raise kind(f"{path}: {reason}") from error
