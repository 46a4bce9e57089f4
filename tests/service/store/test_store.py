"""Versions appear whole or not at all, and prove to be what was published."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from progan_service.errors import FileError
from progan_service.store.errors import DamagedVersionError, ModelStoreError
from progan_service.store.metadata import METADATA_FILE, ModelMetadata
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

METADATA = ModelMetadata(latent_size=16, resolution=8, channels=3, provenance={"source": "tests"})

OF_THE_FIRST_RELEASE = """{
  "latent_size": 16,
  "resolution": 8,
  "channels": 3,
  "label_count": 0,
  "label_names": [],
  "provenance": {"source": "tests"},
  "golden": {},
  "files": {},
  "signatures": ["serving_default", "generate_uint8", "differentiable"],
  "format_version": 1
}"""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def write_model(directory: Path) -> ModelMetadata:
    """Something with the shape of a SavedModel."""
    (directory / "variables").mkdir()
    (directory / "saved_model.pb").write_bytes(b"graph")
    (directory / "variables" / "variables.index").write_bytes(b"weights")
    return METADATA


def everything_in(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


# Publishing


def test_a_published_version_is_a_directory_with_its_metadata(store: ModelStore) -> None:
    assert store.publish("faces", write_model) == 1
    assert everything_in(store.root) == [
        "faces",
        "faces/1",
        "faces/1/progan.json",
        "faces/1/saved_model.pb",
        "faces/1/variables",
        "faces/1/variables/variables.index",
    ]


def test_versions_rise_and_are_listed_newest_first(store: ModelStore) -> None:
    for _ in range(11):
        store.publish("faces", write_model)
    assert store.versions("faces") == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_the_version_that_serves_goes_on_serving(store: ModelStore) -> None:
    """The pin is there before the new version is: no server sees one without the other."""
    store.publish("faces", write_model)
    (store.path("faces", store.publish("faces", write_model)) / "saved_model.pb").write_bytes(b"damaged")

    def look(directory: Path) -> ModelMetadata:
        assert store.rollout("faces").pinned == 0
        return write_model(directory)

    assert store.publish("faces", look, label="canary", serve=False) == 3
    assert store.rollout("faces") == Rollout(pinned=1, labels={"canary": 3})
    assert store.publish("faces", write_model, serve=False) == 4
    assert (store.rollout("faces").pinned, store.serving("faces")) == (1, 1)
    store.set_rollout("faces", Rollout())
    assert store.serving("faces") == 4
    assert store.serving("cats") == 0


def test_the_next_version_follows_the_highest(store: ModelStore) -> None:
    store.publish("faces", write_model)
    (store.root / "faces" / "7").mkdir()
    assert store.publish("faces", write_model) == 8


def test_models_are_listed_by_name(store: ModelStore) -> None:
    for name in ("fruits", "faces", "Cats-2.0"):
        store.publish(name, write_model)
    assert store.models() == ["Cats-2.0", "faces", "fruits"]


def test_nothing_can_be_seen_before_the_rename(store: ModelStore) -> None:
    seen: list[list[str]] = []

    def write(directory: Path) -> ModelMetadata:
        seen.append(store.models())
        return write_model(directory)

    store.publish("faces", write)
    assert seen == [[]]


def test_a_failing_write_leaves_nothing(store: ModelStore) -> None:
    def fail(directory: Path) -> ModelMetadata:
        write_model(directory)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        store.publish("faces", fail)
    assert everything_in(store.root) == []


@pytest.mark.parametrize("good", range(7))
def test_a_failed_sync_leaves_nothing(store: ModelStore, monkeypatch: pytest.MonkeyPatch, good: int) -> None:
    """Of the four files and directories of a version, of the version itself, the store and the model."""
    calls = iter(range(100))

    def fsync(_: int) -> None:
        if next(calls) >= good:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileError, match=f"^{store.root}/faces: the disk is full; free some space, or give another"):
        store.publish("faces", write_model)
    assert everything_in(store.root) == []


def test_concurrent_publishers_each_get_a_version_of_their_own(store: ModelStore) -> None:
    all_have_written = threading.Barrier(8)
    versions: list[int] = []

    def write(directory: Path) -> ModelMetadata:
        metadata = write_model(directory)
        all_have_written.wait(timeout=60)
        return metadata

    publishers = [threading.Thread(target=lambda: versions.append(store.publish("faces", write))) for _ in range(8)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    assert sorted(versions) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [store.verify("faces", version).latent_size for version in versions] == [16] * 8


def test_a_stray_file_with_a_versions_name_is_stepped_over(store: ModelStore) -> None:
    (store.root / "faces").mkdir()
    (store.root / "faces" / "1").write_text("not a version")
    assert store.publish("faces", write_model) == 2


def test_other_users_may_read_a_version(store: ModelStore) -> None:
    store.publish("faces", write_model)
    assert store.path("faces", 1).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "a b", "-a", "é", "a" * 64, "a\n"])
def test_a_name_that_is_no_plain_directory_name_is_refused(store: ModelStore, name: str) -> None:
    with pytest.raises(ModelStoreError, match="must be 1 to 63 letters, digits, dots, dashes or underscores") as caught:
        store.publish(name, write_model)
    assert str(caught.value).startswith(f"model name is {name!r}: ")
    assert everything_in(store.root) == []


# Listing


@pytest.mark.parametrize("stray", ["0", "01", "-1", "1.5", "latest", ".incoming-x", "1٣", "1" * 19])
def test_what_is_no_version_is_passed_over(store: ModelStore, stray: str) -> None:
    (store.root / "faces" / stray).mkdir(parents=True)
    assert store.versions("faces") == []
    assert store.models() == []


def test_an_unknown_model_has_no_versions(store: ModelStore) -> None:
    assert store.versions("faces") == []


def test_files_beside_the_models_are_passed_over(store: ModelStore) -> None:
    (store.root / "README.md").write_text("our models")
    assert store.models() == []


def test_a_store_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError, match=f"{tmp_path}/none: no such directory; a model store is a directory"):
        ModelStore(tmp_path / "none")


# Verifying


def test_a_whole_version_proves_itself(store: ModelStore) -> None:
    store.publish("faces", write_model)
    metadata = store.verify("faces", 1)
    assert replace(metadata, files={}) == METADATA
    assert metadata.files == {
        "saved_model.pb": "eef93e1d14482804277fca0172464032d1a4fdbcc338524059fa1e861454ad4d",
        "variables/variables.index": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
    }


def damage(version: Path) -> None:
    (version / "variables" / "variables.index").write_bytes(b"weighty")


def remove(version: Path) -> None:
    (version / "saved_model.pb").unlink()


def add(version: Path) -> None:
    (version / "assets").mkdir()
    (version / "assets" / "virus").write_bytes(b"")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (damage, r"/faces/1/variables/variables.index: differs from what was published \(SHA-256 [0-9a-f]{64}\)$"),
        (remove, "/faces/1/saved_model.pb: missing, but listed in progan.json$"),
        (add, "/faces/1/assets/virus: not listed in progan.json$"),
    ],
)
def test_a_changed_version_is_refused_and_the_file_named(
    store: ModelStore, tamper: Callable[[Path], None], message: str
) -> None:
    store.publish("faces", write_model)
    tamper(store.path("faces", 1))
    with pytest.raises(ModelStoreError, match=message):
        store.verify("faces", 1)


# Metadata


def test_metadata_reads_back_as_it_was_written() -> None:
    metadata = replace(
        METADATA,
        label_count=2,
        label_names=("smiles", "does not"),
        golden={"0": "golden/seed-0.png"},
        bfloat16_psnr_db=47.11,
        algorithms={"generate_uint8_cpu": {"8x8/conv0": "by differences"}},
    )
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_metadata_of_the_first_release_are_read() -> None:
    """They tell nothing of bfloat16 and of algorithms."""
    assert ModelMetadata.from_json(OF_THE_FIRST_RELEASE) == METADATA
    assert (METADATA.bfloat16_psnr_db, METADATA.algorithms) == (None, {})


def test_the_digest_names_the_content() -> None:
    first = replace(METADATA, files={"a": "1" * 64, "b": "2" * 64})
    assert first.digest == "sha256:032ed9970a4d7373131c71442efe59432b1e14a87dfccc8c13ad9d375d76f96c"
    assert replace(METADATA, files={"b": "2" * 64, "a": "1" * 64}).digest == first.digest
    assert replace(METADATA, files={"a": "1" * 64}).digest != first.digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": "2"}, "format_version is '2': must be a whole number from 1 on"),
        ({"latent_size": "16"}, "latent_size is '16': must be a whole number"),
        ({"channels": True}, "channels is True: must be a whole number"),
        ({"resolution": 0}, "resolution is 0: must be a whole number from 1 to 16384"),
        ({"label_count": -1}, "label_count is -1: must be a whole number from 0 to 65536"),
        ({"label_names": "ab"}, "label_names is 'ab': must be a list"),
        ({"label_names": ["a"]}, "the number of label_names is 1: must be label_count, 0, or 0"),
        ({"label_kind": "moods"}, "label_kind is 'moods': must be classes or attributes"),
        ({"signatures": [1]}, r"signatures\[0\] is 1: must be text"),
        ({"files": []}, r"files is \[\]: must be an object of names and values"),
        ({"golden": {"0": None}}, "golden.0 is None: must be text"),
        ({"provenance": "unknown"}, "provenance is 'unknown': must be an object of names and values"),
        ({"bfloat16_psnr_db": "47"}, "bfloat16_psnr_db is '47': must be a number or null"),
    ],
)
def test_metadata_with_a_wrong_value_is_refused(store: ModelStore, change: dict[str, Any], reason: str) -> None:
    store.publish("faces", write_model)
    file = store.path("faces", 1) / METADATA_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelStoreError, match=rf"^{file}: not readable as model metadata \({reason}\)$"):
        store.metadata("faces", 1)


def test_metadata_written_by_a_newer_release_are_read_and_their_keys_kept(store: ModelStore) -> None:
    store.publish("faces", write_model)
    file = store.path("faces", 1) / METADATA_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"colour": "blue", "unknown": 1}))
    found = store.verify("faces", 1)
    assert replace(found, files={}, unknown={}) == METADATA
    assert json.loads(found.to_json())["colour"] == "blue"


def test_metadata_of_a_higher_version_are_refused_by_name(store: ModelStore) -> None:
    store.publish("faces", write_model)
    file = store.path("faces", 1) / METADATA_FILE
    file.write_text('{"format_version": 2}')
    with pytest.raises(DamagedVersionError) as refused:
        store.metadata("faces", 1)
    assert str(refused.value) == (
        f"{file}: was written by a newer release (format_version 2; this release reads 1): "
        "upgrade progan-service to read it"
    )


@pytest.mark.parametrize(
    ("provenance", "text"),
    [
        ({"license": "MIT\r\n\r\nAda"}, "MIT\n\nAda"),
        ({"license": "MIT", "dataset": {"licence": "CC0"}}, "MIT"),
        ({"dataset": {"licence": "CC0"}}, "CC0"),  # as earlier releases wrote it
        ({"dataset": "faces"}, ""),
        ({"license": ["MIT"]}, ""),
        ({}, ""),
    ],
)
def test_the_licence_of_a_version(provenance: dict[str, Any], text: str) -> None:
    assert replace(METADATA, provenance=provenance).license == text


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format_version": 1}', b"\xff\xfe"])
def test_a_file_that_is_no_metadata_is_refused(store: ModelStore, content: bytes) -> None:
    store.publish("faces", write_model)
    (store.path("faces", 1) / METADATA_FILE).write_bytes(content)
    with pytest.raises(ModelStoreError, match="/faces/1/progan.json: not readable as model metadata"):
        store.metadata("faces", 1)


def test_a_version_without_metadata_is_refused(store: ModelStore) -> None:
    store.path("faces", 1).mkdir(parents=True)
    with pytest.raises(ModelStoreError, match="/faces/1/progan.json: missing; every version needs one$"):
        store.verify("faces", 1)


# Watching


def test_a_fingerprint_changes_with_every_change_of_a_file(store: ModelStore) -> None:
    store.publish("faces", write_model)
    path, seen = store.path("faces", 1), [store.fingerprint("faces", 1)]
    assert store.fingerprint("faces", 1) == seen[0]
    for change in (
        lambda: (path / "saved_model.pb").write_bytes(b"grown"),
        lambda: (path / "saved_model.pb").write_bytes(b"other"),
        lambda: (path / "more").touch(),
        lambda: (path / "more").unlink(),
    ):
        change()
        seen.append(store.fingerprint("faces", 1))
    assert all(a != b for a, b in pairwise(seen))


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "variables/../../x", ""])
def test_metadata_name_no_file_outside_of_the_version(name: str) -> None:
    for field in ({"files": {name: "0" * 64}}, {"golden": {"0": name}}):
        with pytest.raises(
            ValueError, match=r"^a file in (files|golden) is .*: must be the name of a file within the version$"
        ):
            replace(METADATA, **field)  # type: ignore[arg-type]


# What an operator decides


def test_without_a_rollout_the_newest_version_serves(store: ModelStore) -> None:
    store.publish("faces", write_model)
    assert store.rollout("faces") == Rollout(pinned=0, labels={})


def test_a_rollout_is_a_file_to_read(store: ModelStore) -> None:
    store.publish("faces", write_model)
    store.set_rollout("faces", Rollout(pinned=1, labels={"canary": 1}))
    assert json.loads((store.root / "faces" / "rollout.json").read_text()) == {
        "format_version": 1,
        "pinned": 1,
        "labels": {"canary": 1},
    }
    assert store.rollout("faces") == Rollout(pinned=1, labels={"canary": 1})
    assert everything_in(store.root / "faces")[-1] == "rollout.json"


def test_a_rollout_speaks_of_versions_that_are_there(store: ModelStore) -> None:
    store.publish("faces", write_model)
    for rollout in (Rollout(pinned=2), Rollout(labels={"canary": 2})):
        with pytest.raises(ModelStoreError, match=r"model 'faces' has no version 2; it has: 1$"):
            store.set_rollout("faces", rollout)
    with pytest.raises(ModelStoreError, match=r"holds no model 'cats'; it holds: faces$"):
        store.set_rollout("cats", Rollout())


def test_a_rollout_written_by_a_newer_release_is_read_and_its_keys_are_kept(store: ModelStore) -> None:
    store.publish("faces", write_model)
    file = store.root / "faces" / "rollout.json"
    file.write_text('{"format_version": 1, "pinned": 0, "labels": {"old": 1}, "traffic": {"canary": 0.1}}')
    rollout = store.rollout("faces")
    assert (rollout.pinned, rollout.labels) == (0, {"old": 1})
    store.set_rollout("faces", replace(rollout, pinned=1, labels={}))
    assert json.loads(file.read_text()) == {
        "format_version": 1,
        "pinned": 1,
        "labels": {},
        "traffic": {"canary": 0.1},
    }


def test_a_rollout_of_a_higher_version_is_refused_by_name(store: ModelStore) -> None:
    store.publish("faces", write_model)
    file = store.root / "faces" / "rollout.json"
    file.write_text('{"format_version": 2, "pinned": "the best"}')
    with pytest.raises(ModelStoreError) as refused:
        store.rollout("faces")
    assert str(refused.value) == (
        f"{file}: was written by a newer release (format_version 2; this release reads 1): "
        "upgrade progan-service to read it"
    )


def test_a_default_model_written_by_a_newer_release_is_read_and_its_keys_are_kept(store: ModelStore) -> None:
    for name in ("cats", "faces"):
        store.publish(name, write_model)
    file = store.root / "default.json"
    file.write_text('{"format_version": 1, "model": "cats", "since": 2027}')
    assert store.default().model == "cats"
    store.set_default("faces")
    assert json.loads(file.read_text()) == {"format_version": 1, "model": "faces", "since": 2027}


def test_a_default_model_of_a_higher_version_is_left_alone_and_a_damaged_one_mended(store: ModelStore) -> None:
    store.publish("faces", write_model)
    file = store.root / "default.json"
    file.write_text('{"format_version": 2}')
    with pytest.raises(ModelStoreError) as refused:
        store.set_default("faces")
    assert str(refused.value) == (
        f"{file}: was written by a newer release (format_version 2; this release reads 1): "
        "upgrade progan-service to read it"
    )
    file.write_text("{")
    store.set_default("faces")
    assert store.default().model == "faces"


def test_the_file_of_the_default_model_is_no_model(store: ModelStore) -> None:
    store.publish("faces", write_model)
    store.set_default("faces")
    assert store.names() == ["faces"]
    with pytest.raises(ModelStoreError, match=r"model name is 'default.json': .*, and not default.json"):
        store.publish("default.json", write_model)


def test_a_rollout_of_the_first_commits_has_no_version(store: ModelStore) -> None:
    store.publish("faces", write_model)
    (store.root / "faces" / "rollout.json").write_text('{"pinned": 1, "labels": {"canary": 1}}')
    assert store.rollout("faces") == Rollout(pinned=1, labels={"canary": 1})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[1]", r"holds \[1\]: must be an object of names and values"),
        ('{"pinned": -1}', "pinned is -1: must be a version"),
        ('{"pinned": true}', "pinned is True: must be a whole number"),
        ('{"pinned": "1"}', "pinned is '1': must be a whole number"),
        ('{"labels": [1]}', r"labels is \[1\]: must be an object of names and values"),
        ('{"labels": {"canary": 0}}', "canary is 0: must be a version"),
        ('{"labels": {"Canary": 1}}', "label is 'Canary': must be 1 to 63 small letters"),
        ('{"labels": {"3": 1}}', "label is '3': must be 1 to 63 small letters"),
    ],
)
def test_a_rollout_that_is_none_is_refused(store: ModelStore, text: str, reason: str) -> None:
    store.publish("faces", write_model)
    file = store.root / "faces" / "rollout.json"
    file.write_text(text)
    with pytest.raises(ModelStoreError, match=f"^{file}: not readable as a rollout .*{reason}"):
        store.rollout("faces")


# Removing


def test_what_is_removed_is_gone_whole(store: ModelStore) -> None:
    for _ in range(2):
        store.publish("faces", write_model)
    store.remove("faces", 1)
    assert everything_in(store.root)[:2] == ["faces", "faces/2"]


def test_superfluous_is_what_is_older_than_the_newest_good_ones(store: ModelStore) -> None:
    for _ in range(6):
        store.publish("faces", write_model)
    (store.path("faces", 5) / "saved_model.pb").write_bytes(b"damaged")
    assert store.superfluous("faces", keep=2) == [3, 2, 1]
    store.set_rollout("faces", Rollout(pinned=2, labels={"old": 1}))
    assert store.superfluous("faces", keep=2) == [3]
    assert store.superfluous("faces", keep=9) == []


def test_what_a_killed_process_left_is_removed_after_a_day(store: ModelStore) -> None:
    old, new = (store.root / f".faces.0000000{n}.partial" for n in range(2))
    for directory in (old, new, store.root / "faces"):
        directory.mkdir()
        (directory / "saved_model.pb").touch()
    rollout = store.root / "faces" / ".rollout.json.00000000.partial"
    rollout.touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in (old, rollout, store.root / "faces"):
        os.utime(path, (two_days_ago, two_days_ago))
    assert store.remove_abandoned() == 2
    assert everything_in(store.root) == [new.name, f"{new.name}/saved_model.pb", "faces", "faces/saved_model.pb"]
