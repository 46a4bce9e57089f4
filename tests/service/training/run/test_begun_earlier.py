"""A run that was begun with an earlier commit goes on, and can be exported. `begun_earlier` says how it was made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progan_service.data.dataset import Dataset
from progan_service.store.store import ModelStore
from progan_service.training.run.checkpoint import read_checkpoint
from progan_service.training.run.directory import read_run_config

BEGUN_EARLIER = Path(__file__).parent / "begun_earlier"
LICENSE = "Take these eight pictures, and do with them what you like.\n"
SETTINGS = (
    *("--preset", "cpu-small", "--resolution", "8", "--fmap-base", "16", "--fmap-max", "4", "--batch-sizes", "8"),
    *("--ema-rampup", "0"),  # the preset did not have it
    *("--stable-kimg", "0.032", "--fade-kimg", "0.032", "--tick-kimg", "0.016", "--precision", "bfloat16"),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEGUN_EARLIER / "run", tmp_path / "run"))


def test_it_goes_on_to_its_end(run: Path, progan: Callable[..., Any]) -> None:
    ended = progan("train", "--data", BEGUN_EARLIER / "pictures", "--run", run, *SETTINGS, "--total-kimg", "0.08")
    assert ended.code == 0, ended.err
    assert f"going on from {run}/checkpoints/images-000000048.npz" in ended.out
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        "images-000000064.npz",
        "images-000000080.npz",
    ]
    written = json.loads((run / "config.json").read_text())
    assert written["format_version"] == 1
    assert written["dataset"]["license"] == LICENSE
    assert "licence" not in written["dataset"]


def test_it_goes_on_by_itself_once_it_is_told_where_its_data_lies(run: Path, progan: Callable[..., Any]) -> None:
    longer = ["train", "--run", run, "--total-kimg", "0.056"]
    assert progan(*longer) == (
        78,
        "",
        f"progan: {run}/config.json: does not say where the data lies: give --data DIR, this once\n",
    )
    ended = progan(*longer, "--data", BEGUN_EARLIER / "pictures")
    assert ended.code == 0, ended.err
    assert progan("train", "--run", run).out.splitlines()[:2] == [
        f"going on from {run}/checkpoints/images-000000056.npz",
        "nothing to do: 0.056 kimg were shown, --total-kimg is 0.056; with a larger one the run goes on",
    ]


def test_another_run_is_refused_as_ever(run: Path, progan: Callable[..., Any]) -> None:
    ended = progan("train", "--data", BEGUN_EARLIER / "pictures", "--run", run, *SETTINGS, "--seed", "1")
    assert ended.code == 78
    assert "--seed was 0, is 1" in ended.err


def test_its_checkpoint_has_the_digest_of_the_first_commits() -> None:
    config = read_run_config(BEGUN_EARLIER / "run")
    stored = str(read_checkpoint(BEGUN_EARLIER / "run" / "checkpoints" / "images-000000048.npz")["config_digest"])
    assert config.digests[1] == stored
    assert config.digests[0] == config.digest != stored


@pytest.mark.parametrize("source", ["run", "run/snapshots/images-000000048.safetensors"])
def test_it_and_its_snapshot_can_be_exported(tmp_path: Path, progan: Callable[..., Any], source: str) -> None:
    ended = progan("export", BEGUN_EARLIER / source, "--store", tmp_path, "--name", "pictures")
    assert ended.code == 0, ended.err
    metadata = ModelStore(tmp_path).verify("pictures", 1)
    assert (metadata.resolution, metadata.provenance["images_shown"]) == (8, 48)
    assert metadata.license == LICENSE


def test_its_dataset_has_its_licence() -> None:
    manifest = Dataset.open(BEGUN_EARLIER / "pictures").manifest
    assert manifest is not None
    assert manifest.license_text == LICENSE
