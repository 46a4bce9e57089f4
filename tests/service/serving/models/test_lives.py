"""The life of a version: the steps that it may take, and the steps that it takes in a server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.life import ImpossibleTransitionError
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.model import State, VersionStatus
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

Publish = Callable[..., int]
Step = tuple[int, State, State]  # of which version, from, to

AVAILABLE, LOADING, READY, FAILED, DRAINING = State

STEPS = {
    (AVAILABLE, LOADING),
    (AVAILABLE, FAILED),
    (LOADING, READY),
    (LOADING, FAILED),
    (LOADING, AVAILABLE),
    (READY, DRAINING),
    (DRAINING, READY),
    (DRAINING, AVAILABLE),
    (FAILED, LOADING),
    (FAILED, FAILED),
}


@pytest.mark.parametrize(("state", "following"), list(product(State, State)), ids=str)
def test_a_version_may_take_these_steps_and_no_others(state: State, following: State) -> None:
    status = VersionStatus(1, _state=state)
    if (state, following) in STEPS:
        status.move_to(following)
        assert status.state is following
    else:
        with pytest.raises(ImpossibleTransitionError, match=f"{following} cannot follow {state}"):
            status.move_to(following)
        assert status.state is state


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The steps that versions take; a test clears the list between refreshes."""
    taken: list[Step] = []
    move_to = VersionStatus.move_to

    def noted(status: VersionStatus, following: State) -> None:
        taken.append((status.number, status.state, following))
        move_to(status, following)

    monkeypatch.setattr(VersionStatus, "move_to", noted)
    return taken


@asynccontextmanager
async def refreshed(store: Path | str) -> AsyncIterator[ModelCatalog]:
    catalog = ModelCatalog(ServerConfig(store, batching=BatchingConfig(max_batch_size=1)), Metrics())
    try:
        await catalog.refresh()
        yield catalog
    finally:
        catalog.close()


async def test_a_version_takes_over_and_the_one_before_drains(
    tmp_path: Path, publish_puppet: Publish, steps: list[Step]
) -> None:
    publish_puppet(tmp_path, "puppet", base=10)
    async with refreshed(tmp_path) as catalog:
        assert steps == [(1, AVAILABLE, LOADING), (1, LOADING, READY)]
        publish_puppet(tmp_path, "puppet", base=20)
        steps.clear()
        with catalog.use("puppet"):
            await catalog.refresh()
            assert steps == [(2, AVAILABLE, LOADING), (2, LOADING, READY), (1, READY, DRAINING)]
            ModelStore(tmp_path).set_rollout("puppet", Rollout(pinned=1))
            steps.clear()
            await catalog.refresh()
        await catalog.refresh()
        assert steps == [(1, DRAINING, READY), (2, READY, DRAINING), (2, DRAINING, AVAILABLE)]


async def test_a_damaged_version_is_tried_until_its_files_rest_and_again_when_they_change(
    tmp_path: Path, publish_puppet: Publish, steps: list[Step]
) -> None:
    publish_puppet(tmp_path, "puppet", base=10)
    async with refreshed(tmp_path) as catalog:
        publish_puppet(tmp_path, "puppet", base=20)
        graph = tmp_path / "puppet" / "2" / "saved_model.pb"
        whole = graph.read_bytes()
        graph.write_bytes(b"half of it")
        await catalog.refresh()
        await catalog.refresh()
        assert steps[2:] == [
            (2, AVAILABLE, LOADING),
            (2, LOADING, AVAILABLE),
            (2, AVAILABLE, LOADING),
            (2, LOADING, FAILED),
        ]
        steps.clear()
        await catalog.refresh()
        assert steps == []
        graph.write_bytes(whole)
        await catalog.refresh()
        assert steps[:3] == [(2, FAILED, LOADING), (2, LOADING, READY), (1, READY, DRAINING)]


async def test_a_version_that_cannot_be_read_is_tried_every_time(
    tmp_path: Path, publish_puppet: Publish, steps: list[Step]
) -> None:
    publish_puppet(tmp_path, "puppet", base=10)
    graph = tmp_path / "puppet" / "1" / "saved_model.pb"
    away = graph.rename(tmp_path / "away")
    graph.mkdir()
    async with refreshed(f"file://{tmp_path}") as catalog:
        await catalog.refresh()
        assert steps == [(1, AVAILABLE, FAILED), (1, FAILED, FAILED)]
        graph.rmdir()
        away.rename(graph)
        steps.clear()
        await catalog.refresh()
        assert steps == [(1, FAILED, LOADING), (1, LOADING, READY)]
