"""A server whose store is behind a URL: it serves a copy, and goes on with it when the store is away."""

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.errors import Unavailable
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.model import State
from progan_service.serving.server import Server
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

Publish = Callable[..., int]
GREY = (np.zeros((1, 4), np.float32),)  # shows the base of a puppet


@asynccontextmanager
async def catalog_of(
    url: str, cache: Path | None = None, metrics: Metrics | None = None
) -> AsyncIterator[ModelCatalog]:
    config = ServerConfig(url, cache=cache, batching=BatchingConfig(max_batch_size=1))
    catalog = ModelCatalog(config, metrics or Metrics())
    try:
        yield catalog
    finally:
        catalog.close()


async def answer(catalog: ModelCatalog, name: str = "puppet") -> int:
    with catalog.use(name) as loaded:
        return int((await loaded.batcher.submit(GREY)).pixels[0, 0, 0, 0])


def states(catalog: ModelCatalog) -> dict[int, State]:
    return {status.number: status.state for status in catalog.model("puppet").versions}


@pytest.fixture
def remote(tmp_path: Path, publish_puppet: Publish) -> Path:
    """A remote store with the puppet, version 1, base 10."""
    root = tmp_path / "remote"
    root.mkdir()
    publish_puppet(root, "puppet", base=10)
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


async def test_a_store_in_memory_is_served(remote: Path, publish_puppet: Publish, tmp_path: Path) -> None:
    import tensorflow as tf

    url = f"ram:/{tmp_path}"

    def upload(*paths: Path) -> None:
        for path in paths:
            target = f"{url}/{path.relative_to(remote)}"
            tf.io.gfile.makedirs(target.rpartition("/")[0])
            tf.io.gfile.copy(str(path), target)

    def files(version: str) -> list[Path]:
        return sorted(path for path in (remote / "puppet" / version).rglob("*") if path.is_file())

    upload(*files("1"))
    publish_puppet(remote, "puppet", base=20)
    async with catalog_of(url) as catalog:
        await catalog.refresh()
        assert await answer(catalog) == 10
        for path in files("2"):  # progan.json is not the last
            upload(path)
            await catalog.refresh()
        assert await answer(catalog) == 20
        ModelStore(remote).set_rollout("puppet", Rollout(pinned=1))
        upload(remote / "puppet" / "rollout.json")
        await catalog.refresh()
        assert await answer(catalog) == 10
        tf.io.gfile.rmtree(f"{url}/puppet/1")
        await catalog.refresh()
        assert await answer(catalog) == 10


async def test_only_what_is_to_serve_is_copied(remote: Path, publish_puppet: Publish, cache: Path) -> None:
    publish_puppet(remote, "puppet", base=20)
    async with catalog_of(f"file://{remote}", cache) as catalog:
        await catalog.refresh()
        assert states(catalog) == {2: State.READY, 1: State.AVAILABLE}
        assert [path.name for path in (cache / "puppet" / "1").iterdir()] == ["progan.json"]
        assert catalog.model("puppet").versions[1].metadata == ModelStore(remote).metadata("puppet", 1)


async def test_a_corrupt_version_is_reported_once_and_served_when_it_is_mended(
    remote: Path, publish_puppet: Publish, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_puppet(remote, "puppet", base=20)
    graph = remote / "puppet" / "2" / "saved_model.pb"
    whole = graph.read_bytes()
    graph.write_bytes(b"damaged")
    async with catalog_of(f"file://{remote}", cache) as catalog:
        for _ in range(3):
            await catalog.refresh()
        assert await answer(catalog) == 10
        assert caplog.text.count("puppet/2/saved_model.pb: differs from what was published") == 1
        graph.write_bytes(whole)
        await catalog.refresh()
        assert await answer(catalog) == 20


async def test_a_version_that_cannot_be_copied_is_reported_once_and_holds_nothing_up(
    remote: Path, publish_puppet: Publish, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_puppet(remote, "puppet", base=20)
    publish_puppet(remote, "zebra", base=30)
    graph = remote / "puppet" / "2" / "saved_model.pb"
    away = graph.rename(remote / "away")
    graph.mkdir()
    metrics = Metrics()
    async with catalog_of(f"file://{remote}", cache, metrics) as catalog:
        for _ in range(3):
            await catalog.refresh()
        assert (await answer(catalog), await answer(catalog, "zebra")) == (10, 30)
        assert states(catalog) == {2: State.FAILED, 1: State.READY}
        assert catalog.model("puppet").versions[0].error.startswith(f"file://{graph}: ")
        assert caplog.text.count(f"model puppet version 2 cannot be served: file://{graph}: ") == 1
        failures = {"model": "puppet", "reason": "unreadable"}
        assert metrics.registry.get_sample_value("progan_model_load_failures_total", failures) == 1
        graph.rmdir()
        away.rename(graph)
        await catalog.refresh()
        assert await answer(catalog) == 20


async def test_a_kept_copy_is_served_while_the_store_is_away(
    remote: Path, publish_puppet: Publish, cache: Path
) -> None:
    async with catalog_of(f"file://{remote}", cache) as catalog:
        await catalog.refresh()
    remote.rename(remote.with_name("away"))
    async with catalog_of(f"file://{remote}", cache) as catalog:
        with pytest.raises(OSError, match=f"file://{remote}: not found"):
            await catalog.look()
        assert states(catalog) == {1: State.AVAILABLE}
        with pytest.raises(OSError, match=f"file://{remote}: not found"):
            await catalog.refresh()
        assert await answer(catalog) == 10
        remote.with_name("away").rename(remote)
        publish_puppet(remote, "puppet", base=20)
        await catalog.refresh()
        assert await answer(catalog) == 20


async def test_before_the_store_was_reached_nothing_is_known(remote: Path) -> None:
    away = remote.rename(remote.with_name("away"))
    async with catalog_of(f"file://{remote}") as catalog:
        with pytest.raises(OSError, match=f"file://{remote}: not found"):
            await catalog.look()
        with pytest.raises(Unavailable, match="the server has not read its store yet"):
            catalog.model("puppet")
        away.rename(remote)
        await catalog.refresh()
        assert await answer(catalog) == 10


async def test_a_store_that_stays_away_is_counted_each_time_and_logged_once(
    remote: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(ServerConfig(f"file://{remote}", cache=cache, port=0, http_port=0, lame_duck_s=0))
    await server.start()
    try:
        for _ in range(2):
            assert [ready.name for ready in await server.refresh()] == ["puppet"]
            remote.rename(remote.with_name("away"))
            for _ in range(3):
                assert [ready.name for ready in await server.refresh()] == ["puppet"]
            remote.with_name("away").rename(remote)
        assert "\nprogan_store_failures_total 6.0\n" in await asyncio.to_thread(page, server.http_port, "metrics")
    finally:
        await server.stop()
    expected = f"the model store cannot be read; the models that serve go on: file://{remote}: not found"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [expected, expected]
    assert "Traceback" not in caplog.text


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=300) as reply:
        text: str = reply.read().decode()
        return text


def test_the_command_serves_a_url_and_its_copy_goes_with_it(remote: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [Path(sys.executable).with_name("progan"), "serve", "--store", f"file://{remote}", "--lame-duck-s", "0"]
    server = subprocess.Popen(
        [*command, "--port", "0", "--http-port", "0", "--log-format", "text"],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("configuration: ")
        assert server.stdout.readline().startswith("listening: ")
        assert server.stdout.readline().startswith("ready: puppet version 1, 4x4, ")
        (copy,) = temporary.iterdir()
        assert ModelStore(copy).verify("puppet", 1).resolution == 4
    finally:
        server.terminate()
        output, _ = server.communicate(timeout=300)
    assert server.returncode == 0, output
    assert list(temporary.iterdir()) == []
