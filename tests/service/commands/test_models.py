"""`progan models ...`: what a store holds, which versions serve, and which stay."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from progan_service.store.metadata import ModelMetadata
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

Progan = Callable[..., Any]  # see conftest.py


@pytest.fixture
def store(tmp_path: Path, tiny_store: Path) -> Path:
    """The model `tiny` in versions 1, 2 and 3."""
    for version in (1, 2, 3):
        shutil.copytree(tiny_store / "tiny" / "1", tmp_path / "tiny" / str(version))
    return tmp_path


def damage(store: Path, version: int) -> Path:
    file = store / "tiny" / str(version) / "saved_model.pb"
    file.write_bytes(b"damaged")
    return file


# The list


def test_all_versions_newest_first(progan: Progan, store: Path) -> None:
    ended = progan("models", "--store", store)
    assert (ended.code, ended.err) == (0, "")
    heading, third, second, first = ended.out.splitlines()
    assert heading == ("MODEL  VERSION  USE     IMAGES  LATENT  LABELS  EXPORTED    DIGEST               SOURCE")
    assert re.fullmatch(r"tiny   3        latest  8x8x3   16 {14}\d{4}-\d\d-\d\d  sha256:[0-9a-f]{12}  tests", third)
    assert [line.split()[:2] for line in (second, first)] == [["tiny", "2"], ["tiny", "1"]]


def test_what_each_version_is_used_for(progan: Progan, store: Path) -> None:
    ModelStore(store).set_rollout("tiny", Rollout(pinned=2, labels={"stable": 2, "canary": 3}))
    _, *rows = progan("models", "--store", store).out.splitlines()
    assert [row[16:30].rstrip() for row in rows] == ["canary", "pinned, stable", ""]


def test_where_a_version_comes_from(progan: Progan, finished_run: Path, tmp_path: Path) -> None:
    progan("export", finished_run, "--store", tmp_path, "--name", "faces")
    assert progan("models", "--store", tmp_path).out.splitlines()[1].endswith("  progan train, 0.2 kimg")


def test_a_provenance_of_other_hands_does_no_harm(progan: Progan, tmp_path: Path) -> None:
    strange = {"source": 7, "origin": "attic", "images_shown": "many"}

    def write(directory: Path) -> ModelMetadata:
        return ModelMetadata(16, 8, 3, provenance=strange)

    ModelStore(tmp_path).publish("old", write)
    assert progan("models", "--store", tmp_path).out.splitlines()[1].endswith("  attic")


def test_a_source_cannot_control_the_terminal(progan: Progan, tmp_path: Path) -> None:
    def write(directory: Path) -> ModelMetadata:
        return ModelMetadata(16, 8, 3, provenance={"source": "\x1b[2J", "origin": "two\nlines"})

    ModelStore(tmp_path).publish("old", write)
    assert progan("models", "--store", tmp_path).out.splitlines()[1].endswith(r"  \x1b[2J two\nlines")


def test_a_broken_version_is_shown_with_the_reason_and_is_not_the_latest(progan: Progan, store: Path) -> None:
    damaged = damage(store, 3)
    _, third, second, _, reason = progan("models", "--store", store).out.splitlines()
    assert third.split() == ["tiny", "3", "broken"]
    assert second.split()[:3] == ["tiny", "2", "latest"]
    assert reason.startswith(f"tiny version 3: {damaged}: differs from what was published (SHA-256 ")


def test_a_missing_store_is_named(progan: Progan, tmp_path: Path) -> None:
    sentence = f"progan: {tmp_path}/none: no such directory; a model store is a directory of models\n"
    assert progan("models", "--store", tmp_path / "none") == (78, "", sentence)


# Verifying


def test_verify_makes_the_golden_pictures_again(progan: Progan, store: Path, tiny_store: Path) -> None:
    def write(directory: Path) -> ModelMetadata:
        shutil.copytree(tiny_store / "tiny" / "1", directory, dirs_exist_ok=True)
        Image.new("RGB", (8, 8)).save(directory / "golden" / "seed-0.png")
        return ModelStore(tiny_store).metadata("tiny", 1)

    ModelStore(store).publish("tiny", write)
    damage(store, 3)
    ended = progan("models", "verify", "--store", store)
    assert (ended.code, ended.err) == (1, "")
    fourth, third, second, first = ended.out.splitlines()
    assert "tiny version 4: broken: " in fourth
    assert "seed 0 differs from golden/seed-0.png by " in fourth
    assert "tiny version 3: broken: " in third
    assert [second, first] == ["tiny version 2: good", "tiny version 1: good"]


def test_verify_tells_what_is_lacking_in_bfloat16(progan: Progan, store: Path, tiny_store: Path) -> None:
    """Here the exporter is said to have come nearer than is possible."""

    def write(directory: Path) -> ModelMetadata:
        shutil.copytree(tiny_store / "tiny" / "1", directory, dirs_exist_ok=True)
        return replace(ModelStore(tiny_store).metadata("tiny", 1), bfloat16_psnr_db=99.0)

    version = ModelStore(store).publish("other", write)
    ended = progan("models", "verify", "other", "--store", store)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"other version {version}: good only in float32: ")
    assert "96.0 dB are needed, 3 less than where it was exported" in ended.out


def test_verify_of_good_versions_ends_well(progan: Progan, tiny_store: Path) -> None:
    assert progan("models", "verify", "tiny", "--store", tiny_store) == (0, "tiny version 1: good\n", "")


# Deciding what serves


def test_pin_and_back_to_the_latest(progan: Progan, store: Path) -> None:
    assert progan("models", "pin", "tiny", "2", "--store", store) == (0, "tiny: version 2 will serve\n", "")
    assert ModelStore(store).rollout("tiny") == Rollout(pinned=2)
    ended = progan("models", "pin", "tiny", "latest", "--store", store)
    assert ended == (0, "tiny: the newest good version will serve\n", "")
    assert ModelStore(store).rollout("tiny") == Rollout()


def test_labels_come_and_go_and_a_pin_stays(progan: Progan, store: Path) -> None:
    progan("models", "pin", "tiny", "1", "--store", store)
    assert progan("models", "label", "tiny", "canary", "3", "--store", store).out == "tiny: canary is version 3\n"
    progan("models", "label", "tiny", "stable", "2", "--store", store)
    assert ModelStore(store).rollout("tiny") == Rollout(1, {"canary": 3, "stable": 2})
    ended = progan("models", "unlabel", "tiny", "canary", "--store", store)
    assert ended.out == "tiny: label canary removed\n"
    assert ModelStore(store).rollout("tiny") == Rollout(1, {"stable": 2})


def test_a_share_of_the_callers_gets_a_label_until_it_is_taken_back(progan: Progan, store: Path) -> None:
    progan("models", "label", "tiny", "canary", "3", "--store", store)
    ended = progan("models", "share", "tiny", "canary", "5", "--store", store)
    assert ended == (0, "tiny: 5 % of the callers get canary, version 3\n", "")
    assert ModelStore(store).rollout("tiny") == Rollout(0, {"canary": 3}, {"canary": 5})
    assert "canary for 5 % of callers" in progan("models", "--store", store).out
    progan("models", "share", "tiny", "canary", "0", "--store", store)
    assert ModelStore(store).rollout("tiny") == Rollout(0, {"canary": 3})
    progan("models", "share", "tiny", "canary", "5", "--store", store)
    progan("models", "unlabel", "tiny", "canary", "--store", store)
    assert ModelStore(store).rollout("tiny") == Rollout()


def test_keys_of_a_newer_release_stay_in_the_rollout(progan: Progan, store: Path) -> None:
    file = store / "tiny" / "rollout.json"
    file.write_text('{"format_version": 1, "traffic": {"canary": 0.1}}')
    progan("models", "pin", "tiny", "1", "--store", store)
    progan("models", "label", "tiny", "canary", "3", "--store", store)
    assert json.loads(file.read_text()) == {
        "format_version": 1,
        "pinned": 1,
        "labels": {"canary": 3},
        "traffic": {"canary": 0.1},
    }


def test_a_rollout_of_a_newer_release_is_left_alone(progan: Progan, store: Path) -> None:
    file = store / "tiny" / "rollout.json"
    file.write_text('{"format_version": 2}')
    ended = progan("models", "pin", "tiny", "1", "--store", store)
    assert ended.code == 78
    assert "rollout.json: was written by a newer release (format_version 2; this release reads 1)" in ended.err
    assert file.read_text() == '{"format_version": 2}'


def test_the_default_model_is_chosen_and_marked(progan: Progan, store: Path) -> None:
    shutil.copytree(store / "tiny", store / "cats")
    assert progan("models", "--store", store).out.splitlines()[-1] == (
        "there are several models and none is the default: cats, tiny; "
        f"to choose one: progan models default NAME --store {store}"
    )
    ended = progan("models", "default", "tiny", "--store", store)
    assert ended == (0, "tiny: answers requests that name no model\n", "")
    _, *rows = progan("models", "--store", store).out.splitlines()
    assert [row.split("  ")[0] for row in rows] == ["cats"] * 3 + ["tiny (default)"] * 3
    shutil.rmtree(store / "tiny")
    assert progan("models", "--store", store).out.splitlines()[-1] == (
        f"the default model, tiny, is not in the store; it holds: cats; to choose one: "
        f"progan models default NAME --store {store}"
    )


def test_a_default_that_cannot_be_read_does_not_hide_the_versions(progan: Progan, store: Path) -> None:
    (store / "default.json").write_text("{")
    _, *rows, reason = progan("models", "--store", store).out.splitlines()
    assert [row.split()[1] for row in rows] == ["3", "2", "1"]
    assert reason.startswith(f"{store}/default.json: not readable as a default model (")


def test_export_warns_when_a_second_model_leaves_requests_without_a_default(
    progan: Progan, store: Path, finished_run: Path
) -> None:
    ended = progan("export", finished_run, "--store", store, "--name", "faces")
    assert (ended.code, ended.err) == (
        0,
        "progan: warning: there are several models and none is the default: faces, tiny; "
        f"to choose one: progan models default NAME --store {store}\n",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["default", "cats"], "{store}: holds no model 'cats'; it holds: tiny"),
        (["pin", "cats", "1"], "{store}: holds no model 'cats'; it holds: tiny"),
        (["pin", "tiny", "9"], "{store}: model 'tiny' has no version 9; it has: 3, 2, 1"),
        (["pin", "tiny", "newest"], "version is 'newest': must be a whole number from 1 on"),
        (["pin", "tiny", "0"], "version is '0': must be a whole number from 1 on"),
        (["pin", "tiny", "1" * 5000], f"version is '{'1' * 5000}': must be a whole number from 1 on"),
        (
            ["label", "tiny", "Canary", "3"],
            "label is 'Canary': must be 1 to 63 small letters, digits, dashes or underscores, beginning with a letter",
        ),
        (["label", "tiny", "latest", "3"], "label is 'latest': must be none of latest, pinned, serves"),
        (["unlabel", "tiny", "canary"], "model 'tiny' has no version label 'canary'; it has: none"),
        (["share", "tiny", "canary", "5"], "model 'tiny' has no version label 'canary'; it has: none"),
        (["verify", "cats"], "{store}: holds no model 'cats'; it holds: tiny"),
        (["prune", "cats"], "{store}: holds no model 'cats'; it holds: tiny"),
        (["prune", "--keep", "0"], "--keep is 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_is_named(progan: Progan, store: Path, arguments: list[str], sentence: str) -> None:
    ended = progan("models", *arguments, "--store", store)
    assert ended == (78, "", f"progan: {sentence.format(store=store)}\n")
    assert ModelStore(store).versions("tiny") == [3, 2, 1]
    assert ModelStore(store).rollout("tiny") == Rollout()


@pytest.mark.parametrize("command", ["pin", "label", "unlabel", "share", "default", "prune"])
def test_what_changes_a_store_needs_its_name(progan: Progan, command: str) -> None:
    ended = progan("models", command)
    assert ended.code == 2
    assert "the following arguments are required: " in ended.err
    assert "--store" in ended.err


@pytest.mark.parametrize("command", [["pin", "tiny", "3"], ["label", "tiny", "canary", "3"]])
def test_a_damaged_version_is_not_chosen(progan: Progan, store: Path, command: list[str]) -> None:
    damaged = damage(store, 3)
    ended = progan("models", *command, "--store", store)
    assert ended.code == 78
    assert ended.err.startswith(f"progan: {damaged}: differs from what was published (SHA-256 ")
    assert ModelStore(store).rollout("tiny") == Rollout()


def test_what_was_chosen_and_is_gone_is_told(progan: Progan, store: Path) -> None:
    ModelStore(store).set_rollout("tiny", Rollout(pinned=3, labels={"canary": 3, "stable": 2}))
    shutil.rmtree(store / "tiny" / "3")
    assert progan("models", "--store", store).out.splitlines()[-1] == (
        "tiny: version 3 is pinned and label 'canary' is version 3, and not in the store"
    )


def test_a_rollout_that_cannot_be_read_does_not_hide_the_versions(progan: Progan, store: Path) -> None:
    (store / "tiny" / "rollout.json").write_text("{")
    _, *rows, reason = progan("models", "--store", store).out.splitlines()
    assert [row.split()[1] for row in rows] == ["3", "2", "1"]
    assert reason.startswith(f"tiny: {store}/tiny/rollout.json: not readable as a rollout (")


def test_an_empty_store_is_told_to_be_one(progan: Progan, tmp_path: Path) -> None:
    assert progan("models", "--store", tmp_path) == (0, f"{tmp_path}: has no models yet\n", "")


@pytest.mark.parametrize("command", [["models"], ["models", "prune"], ["export", "run", "--name", "faces"]])
def test_a_url_is_refused_where_a_directory_is_meant(progan: Progan, command: list[str]) -> None:
    ended = progan(*command, "--store", "gs://bucket/models")
    assert ended.code == 2
    assert "must be a directory (only `progan serve` reads URLs); got 'gs://bucket/models'" in ended.err


# Removing


def test_prune_keeps_the_newest_the_pinned_and_the_labelled(progan: Progan, store: Path) -> None:
    for version in (4, 5, 6):
        shutil.copytree(store / "tiny" / "1", store / "tiny" / str(version))
    ModelStore(store).set_rollout("tiny", Rollout(pinned=2, labels={"stable": 3}))
    assert progan("models", "prune", "--keep", "2", "--dry-run", "--store", store).out.splitlines() == [
        "tiny version 4: would be removed",
        "tiny version 1: would be removed",
    ]
    assert ModelStore(store).versions("tiny") == [6, 5, 4, 3, 2, 1]
    assert progan("models", "prune", "--keep", "2", "--store", store).out.splitlines() == [
        "tiny version 4: removed",
        "tiny version 1: removed",
    ]
    assert ModelStore(store).versions("tiny") == [6, 5, 3, 2]
    assert progan("models", "prune", "--keep", "2", "--store", store).out == "no version to remove\n"


def test_prune_does_not_count_damaged_versions(progan: Progan, store: Path) -> None:
    damage(store, 3)
    assert progan("models", "prune", "tiny", "--keep", "1", "--store", store).out == "tiny version 1: removed\n"
    assert ModelStore(store).versions("tiny") == [3, 2]
