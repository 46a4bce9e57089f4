"""The bundled model, a released version: it has to load for ever and to keep its pictures."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from progan_client import Client
from progan_service.evaluation.thumbnails import thumbnails
from progan_service.serving.config import ServerConfig
from progan_service.serving.models.servable import Servable
from progan_service.serving.models.warm_up import check_golden
from progan_service.serving.server import Server
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
    check_golden(Servable(MODEL / "2", metadata), MODEL / "2")


def test_it_stays_small() -> None:
    files = [file for file in (MODEL / "2").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 10 * 2**20


def test_it_says_where_it_comes_from(metadata: ModelMetadata) -> None:
    assert metadata.provenance["source"] == "progan train"
    assert metadata.provenance["dataset"]["name"] == "fruits"
    assert metadata.license.startswith("MIT License\n\nCopyright (c) 2017 Mihai Oltean, Horea Muresan\n")
    card = (MODEL / "README.md").read_text()
    assert metadata.digest in card
    assert Path(MODEL / "samples.png").is_file()


def test_a_smooth_walk_at_an_even_pace_makes_no_jolt(
    run_server: Callable[[ServerConfig], AbstractContextManager[Server]],
) -> None:
    """Its largest step is less than 3 times the smallest. On great circles, at a uniform pace, it is 17 times."""
    walk = {"seeds": range(6), "frames_between": 23, "loop": True, "path": "smooth", "pace": "even"}
    config = ServerConfig(BUNDLED_STORE, port=0, http_port=0, lame_duck_s=0)
    with run_server(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        frames = thumbnails(np.stack([frame.pixels for frame in client.interpolate(**walk)]))  # type: ignore[misc]
    steps = np.roll(frames, -1, axis=0) - frames
    sizes = np.sqrt((steps**2).mean(axis=1))
    assert sizes.max() / sizes.min() < 3
    accelerations = np.sqrt(((steps - np.roll(steps, 1, axis=0)) ** 2).mean(axis=1))
    assert accelerations.max() < 3 * accelerations.mean()  # 5.9 on great circles


def test_its_pictures_have_the_licence_of_the_data(
    metadata: ModelMetadata, run_server: Callable[[ServerConfig], AbstractContextManager[Server]]
) -> None:
    config = ServerConfig(BUNDLED_STORE, port=0, http_port=0, lame_duck_s=0)
    with run_server(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        (file,) = client.generate(seeds=[1], encoding="png").files
        version = client.model("fruits").version()
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.text["License"] == metadata.license  # type: ignore[attr-defined]
    assert version.license == metadata.license
