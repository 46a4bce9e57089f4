"""Which model answers requests that name none, while models and the operator's choice come and go."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.errors import InvalidArgument, Unavailable
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.store import ModelStore

Publish = Callable[..., int]
TO_CHOOSE = "to choose one: progan models default NAME --store STORE"


@pytest.fixture
def store(tmp_path: Path, publish_puppet: Publish) -> Path:
    """A store with the models `ant` and `bee`."""
    for name in ("ant", "bee"):
        publish_puppet(tmp_path, name)
    return tmp_path


@asynccontextmanager
async def looking(store: Path, model: str = "", cache: Path | None = None) -> AsyncIterator[ModelCatalog]:
    """A catalog that has read the store once and loads nothing; with a cache, it reads the store behind a URL."""
    where = f"file://{store}" if cache else store
    config = ServerConfig(where, cache=cache, model=model, batching=BatchingConfig(max_batch_size=1))
    catalog = ModelCatalog(config, Metrics())
    try:
        await catalog.look()
        yield catalog
    finally:
        catalog.close()


async def test_the_model_that_an_operator_chose_answers_while_there_are_several(store: Path) -> None:
    ModelStore(store).set_default("bee")
    async with looking(store) as catalog:
        assert (catalog.default, catalog.model("").name) == ("bee", "bee")


async def test_another_choice_counts_without_a_restart(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with looking(store) as catalog:
        for name in ("bee", "ant"):
            ModelStore(store).set_default(name)
            for _ in range(2):
                await catalog.look()
            assert catalog.model("").name == name
            assert caplog.text.count(f"requests that name no model go to {name}") == 1
        (store / "default.json").unlink()
        await catalog.look()
        with pytest.raises(InvalidArgument, match="several models: ant, bee; none is the default"):
            catalog.model("")


async def test_without_a_choice_the_start_warns_and_requests_must_name_a_model(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with looking(store) as catalog:
        await catalog.look()
        with pytest.raises(InvalidArgument) as refusal:
            catalog.model("")
    assert refusal.value.description == (
        "is empty, and this server has several models: ant, bee; none is the default "
        "(an operator chooses it: progan models default NAME)"
    )
    assert [record.message for record in caplog.records] == [
        f"there are several models and none is the default: ant, bee; requests must name one; {TO_CHOOSE}"
    ]


async def test_a_second_model_is_warned_of_when_it_appears(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.move(store / "bee", store / ".bee")
    async with looking(store) as catalog:
        assert caplog.text == ""
        shutil.move(store / ".bee", store / "bee")
        for _ in range(2):
            await catalog.look()
        assert catalog.model("").name == "ant"
        assert [record.message for record in caplog.records] == [
            "there are several models and none is the default: ant, bee; ant is used until the next start; " + TO_CHOOSE
        ]
        ModelStore(store).set_default("ant")
        await catalog.look()
    async with looking(store) as catalog:
        assert catalog.model("").name == "ant"
        assert len(caplog.records) == 1


async def test_a_chosen_model_that_is_gone_is_waited_for(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    ModelStore(store).set_default("bee")
    shutil.move(store / "bee", store / ".bee")
    async with looking(store) as catalog:
        with pytest.raises(Unavailable, match="model 'bee', the default, is not in the store yet; it holds: ant"):
            catalog.model("")
        assert [record.message for record in caplog.records] == [
            "the default model, bee, is not in the store; it holds: ant"
        ]
        shutil.move(store / ".bee", store / "bee")
        await catalog.look()
        assert catalog.model("").name == "bee"


async def test_the_setting_of_a_server_goes_before_the_choice_in_the_store(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ModelStore(store).set_default("bee")
    async with looking(store, model="ant") as catalog:
        assert catalog.model("").name == "ant"
    assert "default.json names bee; --model ant goes before it" in caplog.text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not readable as a default model (is no JSON: "),
        ('{"format_version": 1}', "not readable as a default model (model is '': must be the name of a model)"),
        ('{"model": "../bee"}', "not readable as a default model (model is '../bee': must be the name of a model)"),
        ('{"model": 5}', "not readable as a default model (model is 5: must be text)"),
        ('{"format_version": 2}', "was written by a newer release (format_version 2; this release reads 1): upgrade"),
        ("[" * 100_000, "not readable as a default model (has 100000 bytes: must have at most 65536)"),
    ],
)
async def test_a_damaged_choice_is_one_sentence_and_the_last_one_holds(
    store: Path, caplog: pytest.LogCaptureFixture, content: str, why: str
) -> None:
    file = store / "default.json"
    ModelStore(store).set_default("bee")
    async with looking(store) as catalog:
        file.write_text(content)
        for _ in range(2):
            await catalog.look()
        assert catalog.model("").name == "bee"
        (line,) = [record.message for record in caplog.records]
        assert line.startswith(f"{file}: {why}")
        assert line.endswith("; bee stays the default")
        assert sorted(catalog.models) == ["ant", "bee"]


async def test_a_choice_that_is_damaged_at_the_start_counts_once_it_is_mended(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (store / "default.json").mkdir()
    async with looking(store) as catalog:
        assert catalog.model("ant").name == "ant"
        assert "is a directory: must be a file); it counts when it can be read" in caplog.text
        (store / "default.json").rmdir()
        ModelStore(store).set_default("bee")
        await catalog.look()
        assert catalog.model("").name == "bee"


async def test_the_choice_of_a_remote_store_is_followed(
    store: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    ModelStore(store).set_default("ant")
    async with looking(store, cache=cache) as catalog:
        assert catalog.model("").name == "ant"
        ModelStore(store).set_default("bee")
        await catalog.look()
        assert catalog.model("").name == "bee"
        (store / "default.json").unlink()
        (store / "default.json").mkdir()
        await catalog.look()
        assert catalog.model("").name == "bee"
        assert f"file://{store}/default.json: " in caplog.text
        (store / "default.json").rmdir()
        await catalog.look()
        assert catalog.default == ""
