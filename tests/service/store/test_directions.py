"""Directions of a version: the file, what is wrong with one, and how a version gets others."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progan_service.formats import FormatError, NewerFormatError
from progan_service.store.directions import Direction, directions_from_json, directions_to_json
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import ModelMetadata
from progan_service.store.store import ModelStore

SIZE = Direction("size", (0.6, 0.8), "fitted", samples=2000, r=0.78, monotone=1.0, shift_sd=0.72)
AXIS = Direction("axis-1", (1.0, 0.0), "discovered", samples=4096)


def content(*directions: Any, **other: Any) -> str:
    return json.dumps({"format_version": 1, "directions": list(directions), **other})


def document(**values: Any) -> dict[str, Any]:
    return {"name": "size", "vector": [0.6, 0.8], "origin": "fitted", **values}


def publish(store: ModelStore, files: dict[str, str]) -> int:
    """Publish a version of latent size 2 with files of these contents."""

    def write(directory: Path) -> ModelMetadata:
        for name, text in files.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text)
        return ModelMetadata(2, 4, 3, unknown={"of_tomorrow": 7})

    return store.publish("fruits", write)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def test_what_is_written_is_read_again_in_its_order() -> None:
    assert list(directions_from_json(directions_to_json([SIZE, AXIS]), 2).items()) == [("size", SIZE), ("axis-1", AXIS)]


def test_only_name_vector_and_origin_are_needed() -> None:
    assert directions_from_json(content(document()))["size"] == Direction("size", (0.6, 0.8), "fitted")


def test_keys_of_a_newer_release_are_kept() -> None:
    found = directions_from_json(content(document(colour="red")))
    assert json.loads(directions_to_json(found.values()))["directions"][0]["colour"] == "red"
    with pytest.raises(NewerFormatError, match="was written by a newer release"):
        directions_from_json(content(format_version=2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "holds []: must be an object of names and values"),
        ("{}", "directions is None: must be a list"),
        (content(7), "directions[0] is 7: must be an object"),
        (content(document(name="Size")), "name is 'Size': must be 1 to 63 small letters, digits, dashes"),
        (content(document(), document()), "a name of directions is 'size': must be given once"),
        (content(document(vector=[0.6, 0.9])), "the length of the vector of 'size' is 1.08"),
        (content(document(vector=[float("nan"), 1])), "the length of the vector of 'size' is nan: must be 1"),
        (content(document(vector=[1])), "the size of the vector of 'size' is 1: must be 2, the latent_size"),
        (content(document(vector=["x", 1])), "directions[0].vector[0] is 'x': must be a number"),
        (content(document(origin="guessed")), "directions[0].origin is 'guessed': must be fitted or discovered"),
        (content(document(r=2)), "r of 'size' is 2: must be a number from -1 to 1, or null"),
        (content(*(document(name=f"d{n}") for n in range(65))), "the number of directions is 65: must be at most 64"),
    ],
)
def test_a_bad_file_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(FormatError) as refusal:
        directions_from_json(text, 2)
    assert says in str(refusal.value)


def test_a_version_without_the_file_has_no_directions(store: ModelStore) -> None:
    publish(store, {"saved_model.pb": "graph"})
    assert store.directions("fruits", 1) == {}


def test_a_bad_file_of_a_version_is_named(store: ModelStore) -> None:
    publish(store, {"directions.json": content(document(vector=[1]))})
    with pytest.raises(ModelStoreError) as refusal:
        store.directions("fruits", 1)
    assert str(refusal.value) == (
        f"{store.root}/fruits/1/directions.json: not readable as directions (the size of the vector of 'size' is 1: "
        "must be 2, the latent_size)"
    )


def test_a_version_is_published_again_with_directions_and_links(store: ModelStore) -> None:
    publish(store, {"saved_model.pb": "graph", "variables/data": "weights"})
    assert store.publish_directions("fruits", 1, [SIZE]) == 2
    assert store.publish_directions("fruits", 2, [AXIS, SIZE]) == 3
    assert list(store.directions("fruits", 3)) == ["axis-1", "size"]
    assert list(store.directions("fruits", 2)) == ["size"]
    assert store.directions("fruits", 1) == {}
    versions = [store.verify("fruits", version) for version in (1, 2, 3)]
    assert len({metadata.digest for metadata in versions}) == 3
    assert versions[2] == replace(versions[0], files=versions[2].files)
    assert versions[2].unknown == {"of_tomorrow": 7}
    weights = [store.path("fruits", version) / "variables" / "data" for version in (1, 2, 3)]
    assert len({os.stat(file).st_ino for file in weights}) == 1
