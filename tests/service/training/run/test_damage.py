"""A bit that has flipped in any file of a run or of its dataset is named in one sentence, or changes nothing."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progan_service.data.dataset import Dataset
from progan_service.data.making.demo import build_demo
from progan_service.errors import ProganError
from progan_service.export.weights_file import load_weights
from progan_service.sources.run import load_run
from progan_service.training.config import RunConfig, SetupConfig
from progan_service.training.run.configuration import Given, config_of
from progan_service.training.run.directory import begun_config, claim_run_directory, read_run_config
from progan_service.training.trainer import train

AS_BEFORE = Given(None, {}, None, None, None)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def result_or_sentence(make: Callable[[], Any]) -> Any:
    """What was made, or the text of the error of this program."""
    try:
        return make()
    except ProganError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return sentence


# config.json


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.soak)])
def test_a_configuration_is_what_it_was_or_refused(step: int, run_config: RunConfig, tmp_path: Path) -> None:
    """Also the values that may change when a run goes on, and the names of all."""
    config = replace(run_config, setup=SetupConfig(data="/data/faces"))
    content, file = config.to_json().encode(), tmp_path / "config.json"
    for bit in range(0, 8 * len(content), step):
        file.write_bytes(flipped(content, bit))
        found = result_or_sentence(lambda: replace(read_run_config(tmp_path), unknown={}))
        assert found == config or str(found).startswith(f"{file}: "), bit


# A dataset's small files


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["dataset.json", "faces-rxx.labels"])
def test_a_dataset_opens_or_is_refused(name: str, step: int, faces: Dataset, tmp_path: Path) -> None:
    """Labels that opened are the same, or of another digest, which a run that learns them notices."""
    data = Path(shutil.copytree(faces.directory, tmp_path / "faces"))
    content = (data / name).read_bytes()
    for bit in range(0, 8 * len(content), step):
        (data / name).write_bytes(flipped(content, bit))
        found = result_or_sentence(lambda: Dataset.open(data))
        if isinstance(found, str):
            assert found.startswith(f"{data}"), bit
        else:
            same = found.labels.tobytes() == faces.labels.tobytes()
            assert (found.digests == faces.digests) is same, bit


# The whole of a run


def made_of(run: Path, data: Path) -> dict[str, Any]:
    """All that export, the next training and a dataset's reader take from these files."""
    before = begun_config(run)
    dataset = Dataset.open(data)
    now = config_of(run, before, dataset, AS_BEFORE)
    claim_run_directory(run, now)
    trained = [load_run(run), *map(load_weights, sorted((run / "snapshots").iterdir()))]
    return {
        "config": now.settings(),
        "images": {size: dataset.images(np.arange(dataset.count), size) for size in dataset.levels},
        "labels": dataset.labels,
        "generators": [[weight.numpy() for weight in each.generator.weights] for each in trained],
        "growth": [
            (each.resolution, each.alpha, each.label_names, each.provenance["images_shown"]) for each in trained
        ],
    }


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, run_config: RunConfig) -> Path:
    """A directory with a dataset, `data`, and a run of 16 images that learns its labels, `run`."""
    place = tmp_path_factory.mktemp("labelled")
    build_demo(place / "data", 8, 24, seed=0, label="glasses", progress=lambda *_: None)
    dataset = Dataset.open(place / "data")
    settings = {"resolution": 8, "fmap_base": 32, "fmap_max": 8, "batch_sizes": {4: 8}, "total_kimg": 0.016}
    config = config_of(place / "run", None, dataset, Given(None, settings, True, None, None))
    claim_run_directory(place / "run", config)
    assert train(
        place / "run", config, dataset, report=lambda _: None, progress=lambda *_: None, stopping=lambda: False
    )
    return place


def damaged(labelled: Path, place: Path, file: Path, bit: int) -> tuple[Path, Path]:
    """Copies of the run and of its dataset with this bit of a file flipped. The run finds its data in its place."""
    for name in ("data", "run"):
        shutil.copytree(labelled / name, place / name)
    (place / file).write_bytes(flipped((labelled / file).read_bytes(), bit))
    return place / "run", place / "data"


def files_of(labelled: Path) -> list[Path]:
    return sorted(file.relative_to(labelled) for file in labelled.rglob("*") if file.is_file() and file.stat().st_size)


@pytest.mark.soak
def test_any_bit_of_any_file(labelled: Path, tmp_path: Path) -> None:
    """Runs for minutes: every file at random places, twelve times each."""
    whole, files = made_of(labelled / "run", labelled / "data"), files_of(labelled)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for number, file in enumerate(files * 12):
        bit = chance.randrange(8 * (labelled / file).stat().st_size)
        place = tmp_path / str(number)
        run, data = damaged(labelled, place, file, bit)
        print(f"seed {seed}, bit {bit} of {file}")
        found = result_or_sentence(lambda run=run, data=data: made_of(run, data))
        if not isinstance(found, str):
            np.testing.assert_equal(found, whole)
        shutil.rmtree(place)
