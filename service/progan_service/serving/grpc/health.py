"""Health as grpc.health.v1 tells it: alive under the empty name, ready under the service's, and each model's."""

from collections.abc import Collection, Iterable

from grpc_health.v1 import health, health_pb2

from progan_protos.v1 import image_generator_pb2
from progan_service.serving.watching.metrics import Metrics

SERVICE: str = image_generator_pb2.DESCRIPTOR.services_by_name["ImageGeneratorService"].full_name


class Health:
    """The state behind the gRPC health service and the HTTP probes."""

    def __init__(self, metrics: Metrics) -> None:
        self.servicer = health.aio.HealthServicer()
        self.ready = False
        self._metrics = metrics
        self._models: set[str] = set()

    async def alive(self) -> None:
        """The process is up; said once, before any model is known, and true until it exits."""
        await self._set("", True)
        await self._set(SERVICE, False)

    async def models(self, known: Iterable[str], ready: Collection[str]) -> None:
        """The models of the server, and those that answer; the service is ready when at least one of them does."""
        self._models |= set(known)
        for name in self._models:
            await self._set_model(name, name in ready)
        self.ready = bool(ready)
        await self._set(SERVICE, self.ready)

    async def draining(self) -> None:
        """Readiness goes; the process stays alive."""
        self.ready = False
        await self._set(SERVICE, False)
        for name in self._models:
            await self._set_model(name, False)

    async def _set_model(self, name: str, serving: bool) -> None:
        self._metrics.model_ready.labels(name).set(serving)
        await self._set(f"{SERVICE}/{name}", serving)

    async def _set(self, service: str, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        await self.servicer.set(service, status.SERVING if serving else status.NOT_SERVING)
