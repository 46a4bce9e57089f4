"""Which models a server has, in what state, and which one answers a request."""

import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.errors import FailedPrecondition, InvalidArgument, ModelNotFound, Unavailable
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.measured import measure
from progan_service.serving.models.model import Model, State
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import ModelMetadata
from progan_service.store.store import ModelStore


@asynccontextmanager
async def catalog_of(store: Path, default_model: str = "", *, load: bool = True) -> AsyncIterator[ModelCatalog]:
    config = ServerConfig(store, model=default_model, batching=BatchingConfig(max_batch_size=2))
    catalog = ModelCatalog(config, Metrics())
    try:
        if load:
            await catalog.refresh()
        yield catalog
    finally:
        catalog.close()


def selected(catalog: ModelCatalog, name: str, version: int = 0, label: str = "") -> LoadedVersion:
    with catalog.use(name, version, label) as loaded:
        return loaded


@pytest.fixture
def one_model(tmp_path: Path, puppet_store: Path) -> Path:
    """A store with the model `puppet` alone, versions 1 and 2 good, 3 damaged."""
    shutil.copytree(puppet_store / "puppet", tmp_path / "puppet")
    return tmp_path


async def test_the_newest_good_version_of_every_model_is_loaded(puppet_store: Path) -> None:
    async with catalog_of(puppet_store) as catalog:
        assert sorted((version.name, version.number) for version in catalog.serving_versions()) == [
            ("labelled", 1),
            ("puppet", 2),
            ("wide", 1),
        ]


async def test_a_loaded_model_makes_images(one_model: Path) -> None:
    async with catalog_of(one_model) as catalog:
        latents = np.array([[5, 0, 0, 0], [-5, 0, 0, 0], [0, 0, 0, 0]], np.float32)
        generated = await selected(catalog, "puppet").batcher.submit((latents,))
        assert generated.pixels.shape == (3, 4, 4, 3)
        assert generated.pixels[:, 0, 0, 0].tolist() == [150, 50, 100]


async def test_a_damaged_version_is_reported_and_passed_over(one_model: Path) -> None:
    async with catalog_of(one_model) as catalog:
        newest, loaded, older = catalog.model("puppet").versions
        assert (newest.number, newest.state) == (3, State.FAILED)
        assert "3/saved_model.pb: differs from what was published" in newest.error
        assert (loaded.number, loaded.state, loaded.error) == (2, State.READY, "")
        assert (older.number, older.state) == (1, State.AVAILABLE)


async def test_a_damaged_version_is_counted_and_logged(one_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    catalog = ModelCatalog(ServerConfig(one_model, batching=BatchingConfig(max_batch_size=1)), metrics)
    await catalog.refresh()
    catalog.close()
    labels = {"model": "puppet", "reason": "invalid"}
    assert metrics.registry.get_sample_value("progan_model_load_failures_total", labels) == 1
    assert "model puppet version 3 cannot be served: " in caplog.text


async def test_a_version_without_metadata_is_reported_and_passed_over(one_model: Path) -> None:
    (one_model / "puppet" / "4").mkdir()
    async with catalog_of(one_model) as catalog:
        newest = catalog.model("puppet").versions[0]
        assert (newest.number, newest.state, newest.metadata) == (4, State.FAILED, None)
        assert "4/progan.json: missing" in newest.error
        assert selected(catalog, "puppet").number == 2


async def test_a_version_whose_images_are_not_what_it_says_is_reported_and_passed_over(one_model: Path) -> None:
    metadata = one_model / "puppet" / "2" / "progan.json"
    metadata.write_text(metadata.read_text().replace('"resolution": 4', '"resolution": 8'))
    async with catalog_of(one_model) as catalog:
        status = catalog.model("puppet").versions[1]
        assert status.state is State.FAILED
        assert "gives uint8 (1, 4, 4, 3) for 1 latents; must be uint8 (1, 8, 8, 3)" in status.error
        assert selected(catalog, "puppet").number == 1


async def test_a_version_whose_golden_picture_is_another_is_reported_and_passed_over(
    tmp_path: Path, tiny_store: Path
) -> None:
    def write(directory: Path) -> ModelMetadata:
        shutil.copytree(tiny_store / "tiny" / "1", directory, dirs_exist_ok=True)
        Image.new("RGB", (8, 8)).save(directory / "golden" / "seed-0.png")
        return ModelStore(tiny_store).metadata("tiny", 1)

    ModelStore(tmp_path).publish("tiny", write)
    async with catalog_of(tmp_path) as catalog:
        (status,) = catalog.model("tiny").versions
        assert status.state is State.FAILED
        assert "seed 0 differs from golden/seed-0.png by " in status.error
        assert "2 are allowed" in status.error


async def test_without_a_good_version_the_model_is_unavailable(one_model: Path) -> None:
    for version in ("1", "2"):
        shutil.rmtree(one_model / "puppet" / version)
    async with catalog_of(one_model) as catalog:
        assert catalog.serving_versions() == []
        with pytest.raises(Unavailable, match="model 'puppet' is not ready"):
            selected(catalog, "puppet")


async def test_before_the_first_look_at_the_store_nothing_is_known(one_model: Path) -> None:
    async with catalog_of(one_model, load=False) as catalog:
        with pytest.raises(Unavailable, match="the server has not read its store yet"):
            selected(catalog, "puppet")


async def test_an_empty_store_has_no_model_yet(tmp_path: Path) -> None:
    async with catalog_of(tmp_path) as catalog:
        with pytest.raises(Unavailable, match="its store is empty"):
            selected(catalog, "")


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError, match="gone: no such directory"):
        ModelCatalog(ServerConfig(tmp_path / "gone"), Metrics())


async def test_a_default_model_that_is_not_there_yet_is_waited_for(one_model: Path, puppet_store: Path) -> None:
    async with catalog_of(one_model, default_model="wide") as catalog:
        with pytest.raises(Unavailable, match="model 'wide', the default, is not in the store yet; it holds: puppet"):
            selected(catalog, "")
        shutil.copytree(puppet_store / "wide", one_model / "wide")
        await catalog.refresh()
        assert selected(catalog, "").name == "wide"


async def test_the_only_model_is_the_default(one_model: Path) -> None:
    async with catalog_of(one_model) as catalog:
        assert catalog.default == "puppet"
        assert selected(catalog, "").name == "puppet"


async def test_of_several_models_the_configured_one_is_the_default(puppet_store: Path) -> None:
    async with catalog_of(puppet_store, default_model="puppet") as catalog:
        assert selected(catalog, "").name == "puppet"
        assert selected(catalog, "labelled").name == "labelled"


async def test_of_several_models_without_a_default_one_must_be_named(puppet_store: Path) -> None:
    async with catalog_of(puppet_store) as catalog:
        with pytest.raises(InvalidArgument, match="several models: labelled, puppet, wide") as refusal:
            selected(catalog, "")
        assert refusal.value.argument == "model"


async def test_the_ready_version_may_be_asked_for_by_its_number(one_model: Path) -> None:
    async with catalog_of(one_model) as catalog:
        assert selected(catalog, "puppet", 2).number == 2


async def test_an_unknown_model_is_not_found(one_model: Path) -> None:
    async with catalog_of(one_model) as catalog:
        with pytest.raises(ModelNotFound, match="no model 'cats'; this server has: puppet"):
            selected(catalog, "cats")


async def test_an_unknown_version_is_not_found(one_model: Path) -> None:
    async with catalog_of(one_model) as catalog:
        with pytest.raises(ModelNotFound, match="model 'puppet' has no version 9; it has: 3, 2, 1"):
            selected(catalog, "puppet", 9)


@pytest.mark.parametrize(
    ("version", "why"),
    [
        (1, r"is not loaded \(a label would load it\); loaded: 2"),
        (3, "cannot be served: .*/3/saved_model.pb: differs from"),
    ],
)
async def test_a_version_that_is_not_loaded_cannot_answer(one_model: Path, version: int, why: str) -> None:
    async with catalog_of(one_model) as catalog:
        with pytest.raises(FailedPrecondition, match=f"version {version} of model 'puppet' {why}"):
            selected(catalog, "puppet", version)


def test_another_thread_may_read_the_metrics_while_versions_come_and_go() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    end = time.monotonic() + 0.3
    model, metrics = Model("puppet"), Metrics()
    measure(model, metrics)
    batcher = SimpleNamespace(queued_rows=lambda priority: 0, images_per_s=8.0, max_batch_size=4)
    loaded: Any = SimpleNamespace(batcher=batcher)
    seen, failures = set(), []

    def read() -> None:
        try:
            while time.monotonic() < end:
                for metric in (metrics.queue_rows, metrics.capacity, metrics.max_batch_rows):
                    seen.update(sample.value for family in metric.collect() for sample in family.samples)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    while thread.is_alive():
        for number in range(10):
            model.loaded[number] = model.serving = loaded
        model.loaded.clear()
        model.serving = None
    sys.setswitchinterval(interval)
    assert failures == []
    assert seen <= {0, 4, 8}
