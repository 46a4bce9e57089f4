"""The tasks that bring up the versions of models: one for each model, so that no model waits for another."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from progan_service.serving.models.model import Model
from progan_service.store.rollout import Rollout


class BringUp(NamedTuple):
    """The task of a model; what was wanted when it began, and when that was."""

    task: asyncio.Task[None]
    wanted: tuple[Rollout, list[int]]
    since: float


class BringUps:
    """The tasks that run. Used in one event loop only. `hang_s` is how long a task may take."""

    def __init__(self, work: Callable[[Model], Awaitable[None]], hang_s: float) -> None:
        self._work = work
        self._hang_s = hang_s
        self._running: dict[str, BringUp] = {}  # by model

    def __bool__(self) -> bool:
        return bool(self._running)

    def begin(self, model: Model) -> None:
        """Bring up a model, unless that happens already. A task that hangs gives way when something else is wanted."""
        wanted = (model.rollout, model.candidates())
        before = self._running.get(model.name)
        if before and time.monotonic() - before.since > self._hang_s and before.wanted != wanted:
            before.task.cancel()
            before = None
        if before is None:
            task = asyncio.create_task(self._bring_up(model), name=f"bring up {model.name}")
            self._running[model.name] = BringUp(task, wanted, time.monotonic())

    async def wait(self, seconds: float | None) -> None:
        """Return when no task runs any more, or after so many seconds."""
        if self._running:
            await asyncio.wait([bring_up.task for bring_up in self._running.values()], timeout=seconds)

    def close(self) -> None:
        for bring_up in self._running.values():
            bring_up.task.cancel()

    async def _bring_up(self, model: Model) -> None:
        try:
            await self._work(model)
        finally:
            if self._running[model.name].task is asyncio.current_task():
                del self._running[model.name]
