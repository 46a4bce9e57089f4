"""A store is read look after look: only what has changed, and nothing that is wrong hides the rest."""

import json
import os
import time
from pathlib import Path

import pytest

from progan_service.store.errors import ModelStoreError, UnreadableError
from progan_service.store.metadata import ModelMetadata
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore
from progan_service.store.watcher import Found, StoreWatcher

METADATA = ModelMetadata(latent_size=16, resolution=8, channels=3, provenance={"source": "tests"})


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with the model `faces`, version 1."""
    store = ModelStore(tmp_path)
    store.publish("faces", lambda _: METADATA)
    return store


@pytest.fixture
def metadata_file(store: ModelStore) -> Path:
    return store.path("faces", 1) / "progan.json"


def put_back(file: Path) -> None:
    """Let the file have been at rest for a minute."""
    then = time.time() - 60
    os.utime(file, (then, then))


def look(watcher: StoreWatcher, name: str = "faces") -> Found:
    found = watcher.look(name)
    assert isinstance(found, Found)
    return found


def test_a_look_finds_the_versions_and_the_rollout(store: ModelStore) -> None:
    store.set_rollout("faces", Rollout(pinned=1))
    watcher = StoreWatcher(store)
    assert watcher.names() == ["faces"]
    assert look(watcher) == Found({1: METADATA}, Rollout(pinned=1))


def test_what_has_not_changed_is_not_read_again(store: ModelStore, metadata_file: Path) -> None:
    put_back(metadata_file)
    watcher = StoreWatcher(store)
    first = look(watcher).versions[1]
    assert look(watcher).versions[1] is first
    metadata_file.write_text(metadata_file.read_text().replace('"resolution": 8', '"resolution": 4'))
    changed = look(watcher).versions[1]
    assert isinstance(changed, ModelMetadata)
    assert changed.resolution == 4


def test_what_was_bad_is_not_read_again_until_it_changes(store: ModelStore, metadata_file: Path) -> None:
    good = metadata_file.read_text()
    metadata_file.write_text("{")
    put_back(metadata_file)
    watcher = StoreWatcher(store)
    first = look(watcher).versions[1]
    assert isinstance(first, ModelStoreError)
    assert look(watcher).versions[1] is first
    metadata_file.write_text(good)
    assert look(watcher).versions[1] == METADATA


def test_a_file_that_has_just_changed_is_read_each_time(store: ModelStore, metadata_file: Path) -> None:
    """It may change again within the same tick of the file system's clock."""
    then = time.time() + 60
    watcher = StoreWatcher(store)
    os.utime(metadata_file, (then, then))
    first = look(watcher).versions[1]
    assert look(watcher).versions[1] is not first


def test_what_is_gone_is_forgotten(store: ModelStore, metadata_file: Path) -> None:
    put_back(metadata_file)
    watcher = StoreWatcher(store)
    first = look(watcher).versions[1]
    away = store.root / "faces"
    away.rename(store.root / ".faces")
    assert watcher.names() == []
    (store.root / ".faces").rename(away)
    again = look(watcher).versions[1]
    assert (again, again is first) == (first, False)


def test_a_large_file_is_refused_by_its_size_without_being_read(store: ModelStore, metadata_file: Path) -> None:
    os.truncate(metadata_file, 300 * 2**20)
    before = bytes_read()
    assert str(look(StoreWatcher(store)).versions[1]) == (
        f"{metadata_file}: not readable as model metadata (has 314572800 bytes: must have at most 4194304)"
    )
    assert bytes_read() - before < 2**20


def bytes_read() -> int:
    """How many bytes this process has read, from anywhere."""
    counts = Path("/proc/self/io").read_text().split()
    return int(counts[counts.index("rchar:") + 1])


def test_a_model_that_cannot_be_listed_is_a_sentence(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "faces":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr("os.listdir", lambda path: [entry.name for entry in scandir(path)])
    monkeypatch.setattr("os.scandir", scandir)
    found = StoreWatcher(store).look("faces")
    assert isinstance(found, UnreadableError)
    assert str(found) == f"{store.root}/faces: permission denied; give this user access, or give another path"


def test_an_error_that_nobody_thought_of_stays_with_its_file(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(content: bytes) -> Rollout:
        raise ZeroDivisionError

    (store.root / "faces" / "rollout.json").write_text(json.dumps({"pinned": 1}))
    put_back(store.root / "faces" / "rollout.json")
    monkeypatch.setattr(Rollout, "from_json", fail)
    watcher = StoreWatcher(store)
    for _ in range(2):
        found = look(watcher)
        assert found.versions == {1: METADATA}
        assert str(found.rollout) == (
            f"{store.root}/faces/rollout.json: cannot be read; the log has the reason (ZeroDivisionError)"
        )
    assert caplog.text.count("Traceback") == 1
