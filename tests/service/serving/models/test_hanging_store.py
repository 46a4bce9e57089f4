"""A store that does not answer: what hangs holds up nothing but itself.

A named pipe that nobody writes to stands for a network mount that is gone. Where the server never opens one, the store
behind the URL file:// does: TensorFlow opens whatever is there.
"""

import asyncio
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from served import Served, served

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.model import State
from progan_service.serving.server import Server
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

Publish = Callable[..., int]

PATIENCE_S = 120
SHORT_S = 0.5  # after that a read hangs


def serving(*options: object) -> AbstractContextManager[Served]:
    """A server for which a read that takes two seconds hangs."""
    rules = ("--drain-s", "1", "--poll-s", "2", "--hang-s", "2", "--max-batch-size", "1")
    return served(*rules, *options, stderr=subprocess.PIPE)


def is_alive(server: Served) -> bool:
    return server.page("/livez") == "alive\n" and server.health() == "SERVING"


def replaced_by_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.fixture
def store(tmp_path: Path, publish_puppet: Publish) -> Path:
    """A store with the models `good` and `stuck`."""
    root = tmp_path / "store"
    root.mkdir()
    publish_puppet(root, "good", base=10)
    shutil.copytree(root / "good", root / "stuck")
    return root


# In a process of its own


def test_files_that_hang_hold_up_no_other_model_and_not_the_end_of_the_process(
    store: Path, tmp_path: Path, publish_puppet: Publish
) -> None:
    shutil.copytree(store / "good", store / "torn")
    replaced_by_a_pipe(store / "stuck" / "1" / "progan.json")
    replaced_by_a_pipe(store / "torn" / "1" / "saved_model.pb")
    tokens = tmp_path / "tokens"
    tokens.write_text("somebody 0123456789abcdef0123456789abcdef\n")
    options = ("--cache", tmp_path / "cache", "--tokens", tokens, "--model", "good")
    with serving("--store", f"file://{store}", *options) as server:
        assert is_alive(server)
        server.line(
            "ready: good version 1",
            f"model stuck: file://{store}/stuck: has not answered for more than 2 s",
            "model torn version 1: its files have not been read for more than 2 s; other models do not wait",
        )
        replaced_by_a_pipe(tokens)
        server.line(f"tokens were not reloaded: {tokens}: is a named pipe: must be a file; the old ones stay in use")
        publish_puppet(store, "good", base=20)
        server.line("model good: version 2 takes over from 1")
        assert is_alive(server)
        assert server.metric("progan_hangs_total", what="look") > 0
        assert server.stop() == 0
        assert server.process.stderr
        assert server.process.stderr.read() == ""


# In this process, with reads that wait for an event


class Gates:
    """Reads of a model, or of the whole store, that wait until they are let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._closed: dict[str, threading.Event] = {}
        names, versions, init = ModelStore.names, ModelStore.versions, ModelStore.__init__

        def slow_init(store: ModelStore, root: Path, *, check: bool = True) -> None:
            if check:
                self._pass("")
            init(store, root, check=check)

        def slow_names(store: ModelStore) -> list[str]:
            self._pass("")
            return names(store)

        def slow_versions(store: ModelStore, name: str) -> list[int]:
            self._pass(name)
            return versions(store, name)

        monkeypatch.setattr(ModelStore, "__init__", slow_init)
        monkeypatch.setattr(ModelStore, "names", slow_names)
        monkeypatch.setattr(ModelStore, "versions", slow_versions)

    def close(self, name: str = "") -> None:
        self._closed[name] = threading.Event()

    def open(self, name: str = "") -> None:
        self._closed.pop(name).set()

    def _pass(self, name: str) -> None:
        if gate := self._closed.get(name):
            assert gate.wait(PATIENCE_S)


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gates]:
    gates = Gates(monkeypatch)
    yield gates
    for name in list(gates._closed):
        gates.open(name)


def configured(store: Path, **settings: Any) -> ServerConfig:
    batching = BatchingConfig(max_batch_size=1)
    return ServerConfig(store, port=0, http_port=0, lame_duck_s=0, hang_s=SHORT_S, batching=batching, **settings)


def value(metrics: Metrics, what: str) -> float | None:
    return metrics.registry.get_sample_value("progan_hangs_total", {"what": what})


async def test_a_store_that_hangs_at_the_start_leaves_the_server_alive_and_is_read_when_it_answers(
    store: Path, gates: Gates, caplog: pytest.LogCaptureFixture
) -> None:
    gates.close()
    server = Server(configured(store))
    await server.start()
    try:
        for _ in range(3):
            assert await server.refresh() == []
        assert await asyncio.to_thread(livez, server.http_port) == "alive\n"
        assert caplog.text.count(f"the model store cannot be read; the models that serve go on: {store}: has not ") == 1
        gates.open()
        while not await server.refresh():
            await asyncio.sleep(0.01)
    finally:
        await server.stop()


def livez(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=PATIENCE_S) as reply:
        return str(reply.read().decode())


async def test_tokens_that_hang_are_reported_and_the_old_ones_stay(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, answered = tmp_path / "tokens", threading.Event()
    tokens.write_text("somebody 0123456789abcdef0123456789abcdef\n")
    server = Server(configured(store, tokens=tokens))
    assert server._tokens
    known = server._tokens.value
    await server.start()
    monkeypatch.setattr(server._tokens, "_read", answered.wait)
    try:
        await server.reload()
        assert "tokens: their files have not answered for more than" in caplog.text
        assert value(server._metrics, "reload") == 1
        assert server._tokens.value is known
    finally:
        answered.set()
        await server.stop()


async def test_a_model_that_hangs_is_reported_once_and_the_others_are_updated(
    store: Path, gates: Gates, publish_puppet: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    catalog = ModelCatalog(configured(store), metrics)
    try:
        await settled(catalog, good=1, stuck=1)
        gates.close("stuck")
        publish_puppet(store, "good", base=20)
        shutil.copytree(store / "stuck" / "1", store / "stuck" / "2")
        await settled(catalog, good=2, stuck=1)
        await catalog.refresh()
        error = f"{store}/stuck: has not answered for more than 0.5 s; check its disk or mount"
        assert catalog.model("stuck").error == error
        assert caplog.text.count(error) == 1
        assert value(metrics, "look")
        gates.open("stuck")
        await settled(catalog, good=2, stuck=2)
        assert catalog.model("stuck").error == ""
    finally:
        catalog.close()


async def settled(catalog: ModelCatalog, **serving: int) -> None:
    """Poll until these versions serve."""
    while {version.name: version.number for version in catalog.serving_versions()} != serving:
        await catalog.refresh()


def threads(start: str) -> int:
    return sum(thread.name.startswith(start) for thread in threading.enumerate())


async def test_a_slow_look_counts_when_it_ends_however_long_it_took(store: Path, gates: Gates) -> None:
    catalog = ModelCatalog(configured(store), Metrics())
    try:
        gates.close("good")
        await catalog.refresh()
        assert list(catalog.models) == ["stuck"]
        assert catalog.default == ""  # nobody knows yet whether it is alone
        gates.open("good")
        while threads("read "):
            await asyncio.sleep(0.01)
        gates.close("good")
        await catalog.look()
        assert sorted(catalog.models) == ["good", "stuck"]
    finally:
        catalog.close()


async def test_a_store_with_many_models_that_hang_takes_a_few_threads_only(tmp_path: Path, gates: Gates) -> None:
    for number in range(20):
        (tmp_path / f"m{number}" / "1").mkdir(parents=True)
        gates.close(f"m{number}")
    catalog = ModelCatalog(configured(tmp_path), Metrics())
    try:
        for _ in range(2):
            await catalog.look()
        assert 8 <= threads(f"read {tmp_path}/m") < 8 + 4  # that of the store's own list may just be ending
    finally:
        catalog.close()


# A load that takes long


class Loads:
    """Loads of a version that wait until they are let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        verify = ModelStore.verify

        def slow_verify(store: ModelStore, name: str, version: int) -> object:
            if (name, version) == ("stuck", 2):
                self.begun.set()
                assert self.gate.wait(PATIENCE_S)
            return verify(store, name, version)

        monkeypatch.setattr(ModelStore, "verify", slow_verify)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    loads = Loads(monkeypatch)
    yield loads
    loads.gate.set()


async def test_while_a_version_loads_the_other_models_are_updated_and_pins_are_followed(
    store: Path, loads: Loads, publish_puppet: Publish
) -> None:
    metrics = Metrics()
    catalog = ModelCatalog(configured(store), metrics)
    try:
        await settled(catalog, good=1, stuck=1)
        shutil.copytree(store / "stuck" / "1", store / "stuck" / "2")
        await catalog.refresh(SHORT_S)
        assert await asyncio.to_thread(loads.begun.wait, PATIENCE_S)
        publish_puppet(store, "good", base=20)
        while catalog.model("good").serving != catalog.model("good").loaded.get(2):
            await catalog.refresh(SHORT_S)
        assert value(metrics, "load")
        ModelStore(store).set_rollout("stuck", Rollout(pinned=1, labels={"stable": 1}))
        while "stable" not in catalog.model("stuck").labelled:
            await catalog.refresh(SHORT_S)
        newest, oldest = catalog.model("stuck").versions
        assert (newest.state, oldest.state) == (State.AVAILABLE, State.READY)
        assert not catalog.loading
    finally:
        catalog.close()


async def test_a_version_that_is_pinned_away_while_it_loads_does_not_take_over(store: Path, loads: Loads) -> None:
    catalog = ModelCatalog(configured(store), Metrics())
    try:
        await settled(catalog, good=1, stuck=1)
        shutil.copytree(store / "stuck" / "1", store / "stuck" / "2")
        await catalog.refresh(0)
        assert await asyncio.to_thread(loads.begun.wait, PATIENCE_S)
        shutil.rmtree(store / "stuck" / "2")
        await catalog.look()
        assert [status.state for status in catalog.model("stuck").versions] == [State.LOADING, State.READY]
        loads.gate.set()
        while catalog.loading:
            await catalog.refresh()
        serving = catalog.model("stuck").serving
        assert serving
        assert serving.number == 1
    finally:
        catalog.close()


async def test_a_server_is_ready_when_its_default_model_is_or_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish_puppet: Publish
) -> None:
    for name in ("another", "default"):
        publish_puppet(tmp_path, name)
    ModelStore(tmp_path).set_default("default")
    gate = threading.Event()
    verify = ModelStore.verify

    def slow_verify(store: ModelStore, name: str, version: int) -> object:
        assert name != "default" or gate.wait(PATIENCE_S)
        return verify(store, name, version)

    monkeypatch.setattr(ModelStore, "verify", slow_verify)
    metrics = Metrics()
    catalog = ModelCatalog(configured(tmp_path), metrics)
    try:
        while not catalog.models or not catalog.models["another"].serving:
            await catalog.refresh(SHORT_S)
        assert catalog.default_is_coming
        gate.set()
        await catalog.refresh()
        assert not catalog.default_is_coming
        assert {version.name for version in catalog.serving_versions()} == {"another", "default"}
    finally:
        gate.set()
        catalog.close()
