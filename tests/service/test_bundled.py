"""The bundled model, a released version: it has to load for ever and to keep its pictures."""

from pathlib import Path

import pytest

from progan_service.serving.models.servable import Servable
from progan_service.store.bundled import BUNDLED_STORE
from progan_service.store.metadata import ModelMetadata
from progan_service.store.store import ModelStore

MODEL = BUNDLED_STORE / "fruits"


@pytest.fixture(scope="module")
def metadata() -> ModelMetadata:
    return ModelStore(BUNDLED_STORE).verify("fruits", 2)


def test_there_is_one_model_with_one_version() -> None:
    store = ModelStore(BUNDLED_STORE)
    assert store.models() == ["fruits"]
    assert store.versions("fruits") == [2]


def test_it_shows_its_golden_pictures_again(metadata: ModelMetadata) -> None:
    assert list(metadata.golden) == ["0", "1", "2", "3"]
    Servable(MODEL / "2", metadata).check_golden(MODEL / "2")


def test_it_stays_small() -> None:
    files = [file for file in (MODEL / "2").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 10 * 2**20


def test_it_says_where_it_comes_from(metadata: ModelMetadata) -> None:
    assert metadata.provenance["source"] == "progan train"
    assert metadata.provenance["dataset"]["name"] == "fruits"
    assert "MIT License" in metadata.provenance["dataset"]["licence"]
    card = (MODEL / "README.md").read_text()
    assert metadata.digest in card
    assert Path(MODEL / "samples.png").is_file()
