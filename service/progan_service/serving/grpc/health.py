"""Health by grpc.health.v1: the empty name is alive, SERVICE is ready, and SERVICE/MODEL is each model."""

from collections.abc import Callable, Collection, Iterable, Sequence

from grpc_health.v1 import health, health_pb2

from progan_service.serving.watching.metrics import Metrics


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc]
    """The library's servicer, and List, which it leaves out: of the models, those that its caller may use."""

    def __init__(self, may_use: Callable[[str], bool]) -> None:
        super().__init__()
        self._may_use = may_use
        self.statuses: dict[str, int] = {}  # by name

    async def List(self, request: health_pb2.HealthListRequest, context: object) -> health_pb2.HealthListResponse:
        statuses = {
            name: health_pb2.HealthCheckResponse(status=status)
            for name, status in self.statuses.items()
            if "/" not in name or self._may_use(name.partition("/")[2])
        }
        return health_pb2.HealthListResponse(statuses=statuses)


class Health:
    """The state behind the gRPC health service and the HTTP probes.

    Changed in the event loop only. `ready` may be read by any thread: it is one reference that is replaced as a whole.
    """

    def __init__(self, services: Sequence[str], metrics: Metrics, may_use: Callable[[str], bool]) -> None:
        """`may_use` tells, within a call, whether its caller may use a model."""
        self.servicer = _Servicer(may_use)
        self.ready = False
        self._ready_models: frozenset[str] = frozenset()
        self._services = services
        self._metrics = metrics
        self._models: set[str] = set()  # that were ever known
        self._known: frozenset[str] = frozenset()

    async def alive(self) -> None:
        """Report that the process is up: once, before any model is known; it stays true until the process exits."""
        await self._set("", True)
        await self._set_ready(False)

    async def models(self, known: Iterable[str], ready: Collection[str], *, waiting: bool = False) -> None:
        """Report the models of the server and which of them answer. The server is ready when at least one does.

        waiting   it is not ready yet all the same
        """
        self._known = frozenset(known)
        self._models |= self._known
        self._ready_models = frozenset(ready)
        for name in self._models:
            await self._set_model(name, name in ready)
        await self._set_ready(bool(ready) and not waiting)

    def is_ready(self, model: str) -> bool:
        """Tell whether a model answers; with an empty name, whether any does."""
        return self.ready and (not model or model in self._ready_models)

    async def draining(self) -> None:
        """Report that nothing is ready any more. The process stays alive."""
        await self._set_ready(False)
        self._metrics.set_state("lame_duck")
        for name in self._models:
            await self._set_model(name, False)

    async def _set_ready(self, ready: bool) -> None:
        self.ready = ready
        self._metrics.set_state("ready" if ready else "not_ready")
        for service in self._services:
            await self._set(service, ready)

    async def _set_model(self, name: str, serving: bool) -> None:
        if name in self._known:
            self._metrics.model_ready.labels(name).set(serving)
        else:  # an alert about a model that is gone would never end
            self._metrics.model_ready.remove(name)
        for service in self._services:
            await self._set(f"{service}/{name}", serving)

    async def _set(self, name: str, serving: bool) -> None:
        names = health_pb2.HealthCheckResponse
        status = names.SERVING if serving else names.NOT_SERVING
        self.servicer.statuses[name] = status
        await self.servicer.set(name, status)
