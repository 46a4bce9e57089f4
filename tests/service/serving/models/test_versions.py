"""Versions come and go while a server runs: what is new proves itself aside, what serves goes on."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.errors import InvalidArgument, ModelNotFound, Unavailable
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.model import State
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

Publish = Callable[..., int]
GREY = (np.zeros((1, 4), np.float32),)  # shows the base of a puppet


@asynccontextmanager
async def watching(store: Path, metrics: Metrics | None = None) -> AsyncIterator[ModelCatalog]:
    config = ServerConfig(store, batching=BatchingConfig(max_batch_size=2))
    catalog = ModelCatalog(config, metrics or Metrics())
    try:
        await catalog.refresh()
        yield catalog
    finally:
        catalog.close()


async def shade(loaded: LoadedVersion) -> int:
    return int((await loaded.batcher.submit(GREY)).pixels[0, 0, 0, 0])


async def answer(catalog: ModelCatalog, version: int = 0, label: str = "", caller: str = "") -> int:
    with catalog.use("puppet", version, label, caller=caller) as loaded:
        return await shade(loaded)


def states(catalog: ModelCatalog) -> dict[int, State]:
    return {status.number: status.state for status in catalog.model("puppet").versions}


async def settled(catalog: ModelCatalog) -> None:
    """Nothing drains any more."""
    while any(model.draining for model in catalog.models.values()):
        await asyncio.sleep(0.01)


def damage(store: Path, version: int) -> None:
    (store / "puppet" / str(version) / "saved_model.pb").write_bytes(b"damaged")


@pytest.fixture
def store(tmp_path: Path, publish_puppet: Publish) -> Path:
    """A store with the puppet, version 1, base 10."""
    publish_puppet(tmp_path, "puppet", base=10)
    return tmp_path


# A new version


async def test_a_new_version_takes_over_and_the_old_one_is_unloaded(store: Path, publish_puppet: Publish) -> None:
    async with watching(store) as catalog:
        assert await answer(catalog) == 10
        publish_puppet(store, "puppet", base=20)
        assert await answer(catalog) == 10
        await catalog.refresh()
        assert await answer(catalog) == 20
        await settled(catalog)
        assert states(catalog) == {2: State.READY, 1: State.AVAILABLE}


async def test_a_call_that_has_begun_ends_with_the_version_it_began_with(store: Path, publish_puppet: Publish) -> None:
    async with watching(store) as catalog:
        with catalog.use("puppet") as begun:
            publish_puppet(store, "puppet", base=20)
            await catalog.refresh()
            assert states(catalog) == {2: State.READY, 1: State.DRAINING}
            assert (await answer(catalog), await shade(begun)) == (20, 10)
        await settled(catalog)
        assert states(catalog) == {2: State.READY, 1: State.AVAILABLE}


async def test_a_version_that_still_drains_is_brought_back_without_loading(
    store: Path, publish_puppet: Publish
) -> None:
    async with watching(store) as catalog:
        with catalog.use("puppet") as begun:
            publish_puppet(store, "puppet", base=20)
            await catalog.refresh()
            ModelStore(store).set_rollout("puppet", Rollout(pinned=1))
            await catalog.refresh()
            with catalog.use("puppet") as again:
                assert again is begun
        await settled(catalog)
        assert await answer(catalog) == 10
        assert states(catalog) == {2: State.AVAILABLE, 1: State.READY}


async def test_the_metrics_forget_a_version_that_is_unloaded(store: Path, publish_puppet: Publish) -> None:
    metrics = Metrics()
    async with watching(store, metrics) as catalog:
        await answer(catalog)
        publish_puppet(store, "puppet", base=20)
        await catalog.refresh()
        await answer(catalog)
        await settled(catalog)
        versions = {
            (sample.name, sample.labels["version"])
            for metric in metrics.registry.collect()
            for sample in metric.samples
            if sample.name in ("progan_model_info", "progan_inference_duration_seconds_count")
        }
        assert versions == {("progan_model_info", "2"), ("progan_inference_duration_seconds_count", "2")}


async def test_a_new_model_is_served_too_and_the_default_stays(store: Path, publish_puppet: Publish) -> None:
    async with watching(store) as catalog:
        publish_puppet(store, "another", base=30)
        await catalog.refresh()
        with catalog.use("another") as loaded:
            assert await shade(loaded) == 30
        assert catalog.default == "puppet"


async def test_an_empty_store_fills(tmp_path: Path, publish_puppet: Publish) -> None:
    async with watching(tmp_path) as catalog:
        assert catalog.serving_versions() == []
        publish_puppet(tmp_path, "puppet", base=10)
        await catalog.refresh()
        assert await answer(catalog) == 10


# A version that is no good


async def test_a_damaged_version_is_reported_and_the_old_one_goes_on(
    store: Path, publish_puppet: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    failures = {"model": "puppet", "reason": "invalid"}
    async with watching(store, metrics) as catalog:
        publish_puppet(store, "puppet", base=20)
        damage(store, 2)
        for _ in range(5):
            await catalog.refresh()
        newest = catalog.model("puppet").versions[0]
        assert (newest.number, newest.state) == (2, State.FAILED)
        assert "2/saved_model.pb: differs from what was published" in newest.error
        assert await answer(catalog) == 10
        assert metrics.registry.get_sample_value("progan_model_load_failures_total", failures) == 1
        assert caplog.text.count("model puppet version 2 cannot be served: ") == 1
        assert "; version 1 stays in use" in caplog.text


async def test_a_damaged_version_that_is_mended_is_served(store: Path, publish_puppet: Publish) -> None:
    async with watching(store) as catalog:
        publish_puppet(store, "puppet", base=20)
        whole = (store / "puppet" / "2" / "saved_model.pb").read_bytes()
        damage(store, 2)
        await catalog.refresh()
        await catalog.refresh()
        assert states(catalog)[2] is State.FAILED
        (store / "puppet" / "2" / "saved_model.pb").write_bytes(whole)
        await catalog.refresh()
        assert await answer(catalog) == 20


async def test_a_version_whose_pictures_are_others_is_reported_at_once(store: Path, publish_puppet: Publish) -> None:
    async with watching(store) as catalog:
        publish_puppet(store, "puppet", base=20, golden=200)
        await catalog.refresh()
        newest = catalog.model("puppet").versions[0]
        assert newest.state is State.FAILED
        assert "seed 0 differs from golden.png by " in newest.error
        assert await answer(catalog) == 10


async def test_what_is_copied_file_by_file_is_served_once_it_is_whole_and_never_reported(
    store: Path, tmp_path_factory: pytest.TempPathFactory, publish_puppet: Publish
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    publish_puppet(elsewhere, "puppet", base=20)
    metrics = Metrics()
    async with watching(store, metrics) as catalog:
        source = elsewhere / "puppet" / "1"
        for file in sorted((f for f in source.rglob("*") if f.is_file()), reverse=True):
            copy = store / "puppet" / "2" / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            for content in (file.read_bytes()[:1], file.read_bytes()):  # half a file first
                assert await answer(catalog) == 10
                copy.write_bytes(content)
                await catalog.refresh()
        assert await answer(catalog) == 20
        assert not any(sample.value for sample in next(iter(metrics.model_load_failures.collect())).samples)


async def test_versions_that_vanish_from_the_store_are_served_on(store: Path) -> None:
    async with watching(store) as catalog:
        shutil.rmtree(store / "puppet")
        await catalog.refresh()
        assert await answer(catalog) == 10
        assert states(catalog) == {1: State.READY}


async def test_without_the_newest_version_the_one_before_serves(store: Path, publish_puppet: Publish) -> None:
    publish_puppet(store, "puppet", base=20)
    async with watching(store) as catalog:
        shutil.rmtree(store / "puppet" / "2")
        damage(store, 1)
        for _ in range(2):
            await catalog.refresh()
        assert await answer(catalog) == 20
        shutil.rmtree(store / "puppet" / "1")
        publish_puppet(store, "puppet", base=10)
        await catalog.refresh()
        assert await answer(catalog) == 10
        await settled(catalog)
        await catalog.refresh()
        assert states(catalog) == {1: State.READY}


# What the operator decides


async def test_a_pinned_version_serves_and_unpinned_the_newest_does(store: Path, publish_puppet: Publish) -> None:
    publish_puppet(store, "puppet", base=20)
    async with watching(store) as catalog:
        assert await answer(catalog) == 20
        ModelStore(store).set_rollout("puppet", Rollout(pinned=1))
        await catalog.refresh()
        assert await answer(catalog) == 10
        publish_puppet(store, "puppet", base=30)
        await catalog.refresh()
        assert await answer(catalog) == 10
        ModelStore(store).set_rollout("puppet", Rollout())
        await catalog.refresh()
        assert await answer(catalog) == 30


async def test_a_pinned_version_that_is_no_good_leaves_what_serves(store: Path, publish_puppet: Publish) -> None:
    publish_puppet(store, "puppet", base=20)
    async with watching(store) as catalog:
        damage(store, 1)
        ModelStore(store).set_rollout("puppet", Rollout(pinned=1))
        await catalog.refresh()
        await catalog.refresh()
        assert await answer(catalog) == 20
        assert states(catalog) == {2: State.READY, 1: State.FAILED}


async def test_a_pinned_version_that_is_gone_is_reported(
    store: Path, publish_puppet: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish_puppet(store, "puppet", base=20)
    ModelStore(store).set_rollout("puppet", Rollout(pinned=2))
    shutil.rmtree(store / "puppet" / "2")
    async with watching(store) as catalog:
        await catalog.refresh()
        with pytest.raises(Unavailable, match="not ready: version 2 is pinned, and not in the store"):
            await answer(catalog)
        assert caplog.text.count("model puppet: version 2 is pinned, and not in the store") == 1


async def test_labelled_versions_answer_beside_the_one_that_serves(store: Path, publish_puppet: Publish) -> None:
    for base in (20, 30):
        publish_puppet(store, "puppet", base=base)
    ModelStore(store).set_rollout("puppet", Rollout(pinned=2, labels={"stable": 2, "canary": 3}))
    async with watching(store) as catalog:
        assert [await answer(catalog, label=label) for label in ("", "stable", "canary")] == [20, 20, 30]
        assert await answer(catalog, version=3) == 30
        assert states(catalog) == {3: State.READY, 2: State.READY, 1: State.AVAILABLE}


async def test_a_share_of_the_callers_gets_a_labelled_version_and_the_others_what_serves(
    store: Path, publish_puppet: Publish
) -> None:
    """Of these, `zoe` belongs to the first 20 percent. A change in the store is followed without a restart."""
    publish_puppet(store, "puppet", base=20)
    ModelStore(store).set_rollout("puppet", Rollout(pinned=1, labels={"canary": 2}))
    async with watching(store) as catalog:
        assert [await answer(catalog, caller=caller) for caller in ("anna", "zoe", "")] == [10, 10, 10]
        ModelStore(store).set_rollout("puppet", Rollout(pinned=1, labels={"canary": 2}, shares={"canary": 20}))
        await catalog.refresh()
        assert [await answer(catalog, caller=caller) for caller in ("anna", "zoe", "")] == [10, 20, 10]
        assert [await answer(catalog, version=1, caller="zoe")] == [10]  # as a stream that goes on asks


async def test_a_share_of_a_version_that_is_not_ready_gets_what_serves(store: Path, publish_puppet: Publish) -> None:
    publish_puppet(store, "puppet", base=20)
    damage(store, 2)
    ModelStore(store).set_rollout("puppet", Rollout(pinned=1, labels={"canary": 2}, shares={"canary": 100}))
    async with watching(store) as catalog:
        assert await answer(catalog, caller="anna") == 10


async def test_a_label_moves_once_its_new_version_is_ready(store: Path, publish_puppet: Publish) -> None:
    for base in (20, 30):
        publish_puppet(store, "puppet", base=base)
    damage(store, 2)
    ModelStore(store).set_rollout("puppet", Rollout(labels={"stable": 1}))
    async with watching(store) as catalog:
        ModelStore(store).set_rollout("puppet", Rollout(labels={"stable": 2}))
        await catalog.refresh()
        assert await answer(catalog, label="stable") == 10
        ModelStore(store).set_rollout("puppet", Rollout(labels={"stable": 3}))
        await catalog.refresh()
        assert await answer(catalog, label="stable") == 30
        await settled(catalog)
        assert states(catalog)[1] is State.AVAILABLE


async def test_what_a_label_cannot_answer(store: Path, publish_puppet: Publish) -> None:
    publish_puppet(store, "puppet")
    damage(store, 1)
    ModelStore(store).set_rollout("puppet", Rollout(labels={"stable": 1}))
    async with watching(store) as catalog:
        with pytest.raises(ModelNotFound, match="model 'puppet' has no version label 'canary'; it has: stable"):
            await answer(catalog, label="canary")
        with pytest.raises(Unavailable, match="version 1 of model 'puppet', labelled 'stable', is not ready"):
            await answer(catalog, label="stable")
        with pytest.raises(InvalidArgument, match="is 'stable', and version is 2: give one of them"):
            await answer(catalog, version=2, label="stable")


async def test_a_rollout_that_cannot_be_read_leaves_the_last_one(
    store: Path, publish_puppet: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish_puppet(store, "puppet", base=20)
    ModelStore(store).set_rollout("puppet", Rollout(pinned=1))
    async with watching(store) as catalog:
        (store / "puppet" / "rollout.json").write_text(json.dumps({"pinned": "newest"}))
        await catalog.refresh()
        await catalog.refresh()
        assert await answer(catalog) == 10
        assert "rollout.json: not readable as a rollout (pinned is 'newest': must be a whole number)" in (
            catalog.model("puppet").error
        )
        assert caplog.text.count("; the loaded versions stay in use") == 1
