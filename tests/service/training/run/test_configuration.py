"""The configuration of a run that goes on: all stands in its `config.json`, and only what was given can differ."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progan_service.data.dataset import Dataset
from progan_service.errors import ConfigError
from progan_service.model.config import NetworkConfig
from progan_service.training.config import RunConfig, SetupConfig, TrainingConfig
from progan_service.training.run.configuration import Given, config_of, data_of
from progan_service.training.run.directory import begun_config, claim_run_directory

NOTHING = Given(preset=None, settings={}, labels=None, auto_batch=None, deterministic=None)
SETTINGS = {"fmap_base": 32, "fmap_max": 8, "batch_sizes": {4: 8}, "seed": 7, "total_kimg": 0.2}


def given(**values: Any) -> Given:
    return replace(NOTHING, settings=values)


@pytest.fixture
def run(tmp_path: Path, faces: Dataset) -> Path:
    """A run that was begun with the default preset, some settings and --deterministic."""
    run = tmp_path / "run"
    go_on(run, faces, Given(None, SETTINGS, labels=None, auto_batch=None, deterministic=True))
    return run


def go_on(run: Path, dataset: Dataset, what: Given = NOTHING) -> RunConfig:
    config = config_of(run, begun_config(run), dataset, what)
    claim_run_directory(run, config)
    return config


def test_nothing_given_changes_nothing(run: Path, faces: Dataset) -> None:
    before = begun_config(run)
    assert before is not None
    assert before.network == NetworkConfig(resolution=8, fmap_base=32, fmap_max=8)
    assert (before.training.seed, before.training.stable_kimg) == (7, 12)
    assert before.setup == SetupConfig(data=str(faces.directory), deterministic=True)
    assert go_on(run, faces) == before


def test_what_may_change_is_as_it_was_given_last(run: Path, faces: Dataset) -> None:
    go_on(run, faces, given(total_kimg=0.3, tick_kimg={4: 1}))
    assert go_on(run, faces, given(snapshot_ticks=5)).training == TrainingConfig(
        **{"stable_kimg": 12, "fade_kimg": 12, "learning_rates": {4: 0.0015}, "ema_halflife_kimg": 5},
        **{"ema_rampup": 0.05, "batch_sizes": {4: 8}, "seed": 7},
        **{"total_kimg": 0.3, "tick_kimg": {4: 1}, "snapshot_ticks": 5},
    )


def test_how_it_is_computed_may_change_and_stays_changed(run: Path, faces: Dataset) -> None:
    go_on(run, faces, replace(NOTHING, auto_batch=True, deterministic=False))
    assert go_on(run, faces).setup == SetupConfig(str(faces.directory), auto_batch=True, deterministic=False)


def test_the_same_settings_given_again_go_on(run: Path, faces: Dataset) -> None:
    go_on(run, faces, given(seed=7, stable_kimg=12.0))


def test_a_setting_that_was_given_and_differs_is_named_with_both_values(run: Path, faces: Dataset) -> None:
    with pytest.raises(ConfigError) as refused:
        go_on(run, faces, given(seed=8, total_kimg=0.3))
    assert str(refused.value) == (
        f"{run}: began with other settings: --seed was 7, is 8; to go on, leave out what differs (a --preset, too, if "
        "the value is from there), or name a new run"
    )


def test_a_preset_that_is_given_again_counts_with_the_values_that_it_names(
    tmp_path: Path, run: Path, faces: Dataset
) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text('{"training": {"stable_kimg": 12}}')
    go_on(run, faces, replace(NOTHING, preset=str(mine)))
    mine.write_text('{"training": {"seed": 0}}')
    with pytest.raises(ConfigError, match="began with other settings: --seed was 7, is 0; to go on,"):
        go_on(run, faces, replace(NOTHING, preset=str(mine)))
    go_on(run, faces, Given(str(mine), {"seed": 7}, labels=None, auto_batch=None, deterministic=None))


def test_labels_are_learnt_as_before(tmp_path: Path, run: Path, faces: Dataset) -> None:
    with pytest.raises(ConfigError, match="began with other settings: --labels was false, is true; to go on,"):
        go_on(run, faces, replace(NOTHING, labels=True))
    labelled = tmp_path / "labelled"
    go_on(labelled, faces, replace(given(**SETTINGS), labels=True))
    assert go_on(labelled, faces).dataset.label_names == faces.label_names
    with pytest.raises(ConfigError, match="began with other settings: --labels was true, is false; to go on,"):
        go_on(labelled, faces, replace(NOTHING, labels=False))


def test_a_wrong_value_is_named_by_its_option(run: Path, faces: Dataset) -> None:
    with pytest.raises(ConfigError, match="^--total-kimg is inf: must be finite$"):
        go_on(run, faces, given(total_kimg=float("inf")))


# Its data


def test_the_data_of_a_run_are_found_again(run: Path, faces: Dataset) -> None:
    assert data_of(run, begun_config(run)) == faces.directory


def test_data_that_was_moved_is_followed(tmp_path: Path, run: Path, faces: Dataset) -> None:
    moved = Path(shutil.copytree(faces.directory, tmp_path / "moved"))
    go_on(run, Dataset.open(moved))
    assert data_of(run, begun_config(run)) == moved
    shutil.rmtree(moved)
    with pytest.raises(ConfigError) as refused:
        data_of(run, begun_config(run))
    assert str(refused.value) == f"{run}: its data is not in {moved} any more: give --data DIR with its new place"


def test_other_data_in_the_new_place_is_refused(tmp_path: Path, run: Path, faces: Dataset) -> None:
    other = Path(shutil.copytree(faces.directory, tmp_path / "other"))
    level = other / "faces-r03.tfrecords"
    content = bytearray(level.read_bytes())
    content[-1] ^= 1  # the checksum of the last image
    level.write_bytes(content)
    with pytest.raises(ConfigError, match="began with other data: the dataset faces has other 8x8 images; go on with"):
        go_on(run, Dataset.open(other))


def test_data_of_a_lower_resolution_is_refused(tmp_path: Path, run: Path, faces: Dataset) -> None:
    smaller = Path(shutil.copytree(faces.directory, tmp_path / "smaller"))
    (smaller / "faces-r03.tfrecords").unlink()
    (smaller / "dataset.json").unlink()
    with pytest.raises(ConfigError, match=f"^{run}: needs images of 8x8, {smaller} has 4x4 at most$"):
        go_on(run, Dataset.open(smaller))


def test_a_path_is_kept_from_the_root_and_any_name_is_kept(
    tmp_path: Path, faces: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(faces.directory, tmp_path / "caf\udce9")
    monkeypatch.chdir(tmp_path)
    go_on(tmp_path / "run", Dataset.open(Path("caf\udce9")), given(**SETTINGS))
    monkeypatch.chdir("/")
    assert data_of(tmp_path / "run", begun_config(tmp_path / "run")) == tmp_path / "caf\udce9"


def test_an_older_run_asks_where_its_data_lies(run: Path, faces: Dataset) -> None:
    document = json.loads((run / "config.json").read_text())
    del document["setup"], document["sha256"]
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError) as refused:
        data_of(run, begun_config(run))
    assert str(refused.value) == f"{run}/config.json: does not say where the data lies: give --data DIR, this once"
    go_on(run, faces)
    assert data_of(run, begun_config(run)) == faces.directory


def test_without_a_run_the_data_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        data_of(tmp_path / "none", begun_config(tmp_path / "none"))
    assert str(refused.value) == (
        f"{tmp_path}/none: no run was begun there: give --data DIR to begin one, or the directory of a run"
    )


def test_keys_of_a_newer_release_stay(run: Path, faces: Dataset) -> None:
    document = json.loads((run / "config.json").read_text())
    del document["sha256"]
    document["setup"]["gpus"] = 2
    (run / "config.json").write_text(json.dumps(document | {"host": "ada"}))
    go_on(run, faces)
    written = json.loads((run / "config.json").read_text())
    assert (written["host"], written["setup"]["gpus"]) == ("ada", 2)
