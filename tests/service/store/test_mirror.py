"""A store behind a URL is met in a local directory: which versions there are at once, their files on demand."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progan_service.store.errors import DamagedVersionError, ModelStoreError
from progan_service.store.metadata import ModelMetadata
from progan_service.store.mirror import Mirror
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

METADATA = ModelMetadata(latent_size=16, resolution=8, channels=3, provenance={"source": "tests"})


def sync(mirror: Mirror) -> dict[str, str]:
    """Bring all models in line with the remote store; return what could not be, by model."""
    problems = {name: mirror.follow(name) for name in mirror.models()}
    return {name: str(problem) for name, problem in problems.items() if problem}


def publish(store: ModelStore, name: str, weights: bytes = b"weights") -> int:
    """Something with the shape of a SavedModel, from a while ago."""

    def write(directory: Path) -> ModelMetadata:
        (directory / "variables").mkdir()
        (directory / "saved_model.pb").write_bytes(b"graph")
        (directory / "variables" / "variables.index").write_bytes(weights)
        return METADATA

    version = store.publish(name, write)
    put_back(store.path(name, version), 600)
    return version


def put_back(path: Path, seconds: float) -> None:
    """These files are older than they are."""
    then = time.time() - seconds
    for file in (path, *path.rglob("*")):
        os.utime(file, (then, then))


def everything_in(directory: Path) -> list[str]:
    """Its files."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def copies(directory: Path) -> dict[str, int]:
    """A file that is copied again is another file of the same name."""
    return {path: (directory / path).stat().st_ino for path in everything_in(directory)}


@pytest.fixture
def remote(tmp_path: Path) -> ModelStore:
    """The remote store: `faces` with version 1, `fruits` with versions 1 and 2, of which 1 is pinned."""
    root = tmp_path / "remote"
    root.mkdir()
    store = ModelStore(root)
    for name in ("faces", "fruits", "fruits"):
        publish(store, name)
    store.set_rollout("fruits", Rollout(pinned=1))
    put_back(root / "fruits" / "rollout.json", 600)
    return store


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def mirror(remote: ModelStore, cache: Path) -> Mirror:
    """In step with the remote store."""
    mirror = Mirror(f"file://{remote.root}", cache)
    sync(mirror)
    return mirror


# What is copied


def test_models_versions_and_rollouts_come_without_the_files_of_versions(mirror: Mirror, cache: Path) -> None:
    assert everything_in(cache) == [
        ".copy-of",
        "faces/1/progan.json",
        "fruits/1/progan.json",
        "fruits/2/progan.json",
        "fruits/rollout.json",
    ]
    assert mirror.store.versions("fruits") == [2, 1]
    assert mirror.store.rollout("fruits") == Rollout(pinned=1)
    assert mirror.store.metadata("faces", 1).resolution == 8


def test_a_version_that_is_fetched_is_whole(mirror: Mirror, cache: Path) -> None:
    mirror.fetch("fruits", 2)
    assert replace(mirror.store.verify("fruits", 2), files={}) == METADATA
    assert everything_in(cache / "fruits" / "1") == ["progan.json"]


def test_what_is_no_model_and_no_version_is_passed_over(remote: ModelStore, mirror: Mirror, cache: Path) -> None:
    for stray in ("faces/01", "faces/latest", "faces/.incoming-x", "my faces/1", ".hidden/1", "pictures"):
        (remote.root / stray).mkdir(parents=True)
    (remote.root / "README.md").write_text("our models")
    (remote.root / "faces" / "7").write_text("no version")
    before = sorted(cache.rglob("*"))
    sync(mirror)
    assert sorted(cache.rglob("*")) == before


def test_what_has_not_changed_is_not_copied_again_not_even_after_a_restart(
    remote: ModelStore, mirror: Mirror, cache: Path
) -> None:
    mirror.fetch("faces", 1)
    before = copies(cache)
    for _ in range(2):
        sync(mirror)
        mirror.fetch("faces", 1)
        assert copies(cache) == before
        mirror.close()
        mirror = Mirror(f"file://{remote.root}/", cache)


def test_two_at_a_time_cannot_have_the_same_directory(remote: ModelStore, mirror: Mirror, cache: Path) -> None:
    with pytest.raises(ModelStoreError) as refusal:
        Mirror(f"file://{remote.root}", cache)
    assert str(refusal.value) == f"{cache}: another server uses it; each needs a directory of its own"


def test_a_rollout_travels_even_if_it_changes_twice_within_the_second(remote: ModelStore, mirror: Mirror) -> None:
    for version in (2, 1, 2):
        remote.set_rollout("fruits", Rollout(pinned=version))
        sync(mirror)
        assert mirror.store.rollout("fruits").pinned == version


def test_the_default_model_comes_changes_and_goes(remote: ModelStore, mirror: Mirror, cache: Path) -> None:
    for name in ("faces", "fruits"):
        remote.set_default(name)
        assert sync(mirror) == {}
        assert mirror.follow_default() is None
        assert mirror.store.default().model == name
    (remote.root / "default.json").unlink()
    sync(mirror)
    assert mirror.follow_default() is None
    assert not (cache / "default.json").exists()


def test_new_models_and_versions_come(remote: ModelStore, mirror: Mirror) -> None:
    publish(remote, "cats")
    publish(remote, "faces")
    sync(mirror)
    assert mirror.store.models() == ["cats", "faces", "fruits"]
    assert mirror.store.versions("faces") == [2, 1]


def test_what_is_gone_there_goes_here(remote: ModelStore, mirror: Mirror, cache: Path) -> None:
    mirror.fetch("fruits", 1)
    shutil.rmtree(remote.root / "faces")
    shutil.rmtree(remote.root / "fruits" / "1")
    (remote.root / "fruits" / "rollout.json").unlink()
    sync(mirror)
    assert everything_in(cache) == [".copy-of", "fruits/2/progan.json"]
    assert sorted(path.name for path in cache.iterdir()) == [".copy-of", "fruits"]


def test_files_that_a_new_progan_json_does_not_list_go(remote: ModelStore, mirror: Mirror) -> None:
    mirror.fetch("faces", 1)
    shutil.rmtree(remote.path("faces", 1))

    def write(directory: Path) -> ModelMetadata:
        (directory / "saved_model.pb").write_bytes(b"another graph")
        return METADATA

    remote.publish("faces", write)
    sync(mirror)
    mirror.fetch("faces", 1)
    assert list(mirror.store.verify("faces", 1).files) == ["saved_model.pb"]


# What is not whole


def test_a_half_uploaded_version_is_incomplete_until_the_rest_comes(
    remote: ModelStore, mirror: Mirror, tmp_path: Path
) -> None:
    weights = remote.path("faces", 1) / "variables" / "variables.index"
    weights.rename(tmp_path / "late")
    mirror.fetch("faces", 1)
    with pytest.raises(DamagedVersionError, match="variables/variables.index: missing, but listed in progan.json"):
        mirror.store.verify("faces", 1)
    (tmp_path / "late").rename(weights)
    mirror.fetch("faces", 1)
    mirror.store.verify("faces", 1)


def test_a_version_whose_progan_json_comes_last_is_known_and_has_nothing_to_fetch(
    remote: ModelStore, mirror: Mirror, cache: Path
) -> None:
    (remote.path("faces", 1) / "progan.json").unlink()
    sync(mirror)
    mirror.fetch("faces", 1)
    assert mirror.store.versions("faces") == [1]
    assert everything_in(cache / "faces") == []


def test_a_corrupt_file_is_copied_again_only_when_it_changes(remote: ModelStore, mirror: Mirror, cache: Path) -> None:
    weights = remote.path("faces", 1) / "variables" / "variables.index"
    weights.write_bytes(b"WEIGHTS")
    put_back(weights, 300)
    mirror.fetch("faces", 1)
    with pytest.raises(DamagedVersionError, match="variables.index: differs from what was published"):
        mirror.store.verify("faces", 1)
    before = copies(cache)
    mirror.fetch("faces", 1)
    assert copies(cache) == before
    weights.write_bytes(b"weights")
    mirror.fetch("faces", 1)
    mirror.store.verify("faces", 1)


def test_a_progan_json_that_names_files_elsewhere_copies_nothing(
    remote: ModelStore, mirror: Mirror, cache: Path
) -> None:
    metadata = remote.path("faces", 1) / "progan.json"
    metadata.write_text(metadata.read_text().replace("saved_model.pb", "../../fruits/1/saved_model.pb"))
    sync(mirror)
    mirror.fetch("faces", 1)
    assert everything_in(cache / "faces") == ["1/progan.json"]
    assert everything_in(cache / "fruits" / "1") == ["progan.json"]


# What cannot be reached


def test_an_unreachable_store_leaves_everything(remote: ModelStore, mirror: Mirror, cache: Path) -> None:
    mirror.fetch("faces", 1)
    before = copies(cache)
    remote.root.rename(remote.root.with_name("away"))
    with pytest.raises(OSError, match=f"^file://{remote.root}: not found$"):
        sync(mirror)
    assert copies(cache) == before
    mirror.store.verify("faces", 1)


def test_a_model_that_cannot_be_listed_stays_as_it_is_and_the_others_follow(
    remote: ModelStore, mirror: Mirror, cache: Path
) -> None:
    before = copies(cache / "fruits")
    shutil.rmtree(remote.root / "faces")
    publish(remote, "cats")
    Path(os.fsdecode(os.fsencode(remote.root / "fruits") + b"/\xff")).touch()
    problems = sync(mirror)
    assert list(problems) == ["fruits"]
    assert problems["fruits"].startswith(f"file://{remote.root}/fruits: a name in it is not UTF-8 ")
    assert (mirror.store.models(), copies(cache / "fruits")) == (["cats", "fruits"], before)


def test_a_small_file_that_cannot_be_copied_does_not_hold_up_the_others(remote: ModelStore, mirror: Mirror) -> None:
    (remote.root / "faces" / "2" / "progan.json").mkdir(parents=True)
    publish(remote, "fruits")
    problems = sync(mirror)
    assert mirror.store.versions("fruits") == [3, 2, 1]
    assert problems["faces"].startswith(f"file://{remote.root}/faces/2/progan.json: ")
    (remote.root / "faces" / "2" / "progan.json").rmdir()
    assert sync(mirror) == {}


def test_a_progan_json_that_is_too_large_is_not_copied_and_refused_by_its_size(
    remote: ModelStore, mirror: Mirror, cache: Path
) -> None:
    large = remote.root / "faces" / "2" / "progan.json"
    large.parent.mkdir()
    large.touch()
    os.truncate(large, 300 * 2**20)
    sync(mirror)
    copy = cache / "faces" / "2" / "progan.json"
    assert (copy.stat().st_size, copy.stat().st_blocks) == (300 * 2**20, 0)
    with pytest.raises(DamagedVersionError, match="has 314572800 bytes: must have at most 4194304"):
        mirror.store.metadata("faces", 2)


def test_a_copy_that_fails_leaves_nothing_half_written(remote: ModelStore, mirror: Mirror, cache: Path) -> None:
    graph = remote.path("faces", 1) / "saved_model.pb"
    graph.unlink()
    graph.mkdir()
    with pytest.raises(OSError, match=f"^file://{graph}: "):
        mirror.fetch("faces", 1)
    assert everything_in(cache / "faces") == ["1/progan.json"]


def test_a_url_that_no_file_system_knows_is_named(cache: Path) -> None:
    with pytest.raises(OSError, match="^nowhere://models: File system scheme 'nowhere' not implemented"):
        sync(Mirror("nowhere://models", cache))


# Where it is copied to


def test_the_copy_of_another_store_is_refused(mirror: Mirror, cache: Path, remote: ModelStore) -> None:
    mirror.close()
    with pytest.raises(ModelStoreError) as refusal:
        Mirror("gs://other/models", cache)
    assert str(refusal.value) == (
        f"{cache}: is the copy of file://{remote.root}, not of gs://other/models; give another directory"
    )


def test_a_directory_with_models_of_its_own_is_refused(remote: ModelStore) -> None:
    with pytest.raises(ModelStoreError) as refusal:
        Mirror("gs://other/models", remote.root)
    assert str(refusal.value) == (
        f"{remote.root}: has models that are no copy of gs://other/models; give another directory"
    )


# A file system without modification times


@pytest.fixture
def gfile() -> Any:
    import tensorflow as tf

    return tf.io.gfile


def test_a_store_in_memory_is_mirrored_too(gfile: Any, remote: ModelStore, cache: Path, tmp_path: Path) -> None:
    url = f"ram:/{tmp_path}"

    def upload(path: str) -> None:
        gfile.makedirs(f"{url}/{path}".rpartition("/")[0])
        if gfile.exists(f"{url}/{path}"):
            gfile.remove(f"{url}/{path}")  # this file system appends to what is there
        gfile.copy(str(remote.root / path), f"{url}/{path}")

    for path in everything_in(remote.root):
        upload(path)
    mirror = Mirror(url, cache)
    sync(mirror)
    assert mirror.store.models() == ["faces", "fruits"]
    mirror.fetch("fruits", 2)
    mirror.store.verify("fruits", 2)
    fingerprint = mirror.store.fingerprint("fruits", 2)
    remote.set_rollout("fruits", Rollout(pinned=2))
    upload("fruits/rollout.json")
    gfile.rmtree(f"{url}/faces")
    sync(mirror)
    assert mirror.store.models() == ["fruits"]
    assert mirror.store.rollout("fruits").pinned == 2
    assert mirror.store.fingerprint("fruits", 2) == fingerprint
