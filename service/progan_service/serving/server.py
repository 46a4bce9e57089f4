"""A server: its parts, wired from bottom to top, and its life from start to stop."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from inspect import isasyncgenfunction
from typing import Any

from progan_service.host.aside import aside, in_time
from progan_service.host.cpus import available_cpus
from progan_service.serving.access.certificates import Certificates, read_certificates
from progan_service.serving.access.exposure import is_local
from progan_service.serving.access.quotas import Quotas
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import Tokens, read_tokens
from progan_service.serving.batching.hang import HangWatch
from progan_service.serving.batching.work import Priority
from progan_service.serving.config import ServerConfig
from progan_service.serving.files.encoders import Encoders
from progan_service.serving.grpc.border import Border, may_use
from progan_service.serving.grpc.connections import Callers, ConnectionWatch
from progan_service.serving.grpc.health import Health
from progan_service.serving.grpc.receiving import Receiver
from progan_service.serving.grpc.sending import Sender
from progan_service.serving.grpc.server import GrpcServer
from progan_service.serving.http.apart import Apart
from progan_service.serving.http.border import Border as HttpBorder
from progan_service.serving.http.connect.handler import Connect
from progan_service.serving.http.guard import Guard
from progan_service.serving.http.images import IMAGE_METHOD, Images
from progan_service.serving.http.playground import playground
from progan_service.serving.http.probes import Pages, probes
from progan_service.serving.http.rest_v1.handler import RestV1
from progan_service.serving.http.rest_v2.handler import RestV2
from progan_service.serving.http.server import HttpServer
from progan_service.serving.jobs.inversion import Inverter
from progan_service.serving.jobs.limits import Limits
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.jobs.unsent import Unsent
from progan_service.serving.listen import NotAcceptingError, file_limit, share
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.protocols.images.servicer import ImageServicer
from progan_service.serving.protocols.open_inference import servicer as open_inference
from progan_service.serving.protocols.progan_v1 import servicer as progan_v1
from progan_service.serving.protocols.service import Service
from progan_service.serving.protocols.tensorflow_serving.messages import MODEL_SERVICE, PREDICTION_SERVICE
from progan_service.serving.protocols.tensorflow_serving.over_grpc import GrpcServicer
from progan_service.serving.protocols.tensorflow_serving.servicer import PredictionServicer
from progan_service.serving.watching.calls import UNKNOWN_METHOD
from progan_service.serving.watching.metrics import Metrics

log = logging.getLogger(__name__)

_LAST_BYTES_S = 1  # how long finished replies may take to reach their callers


class Server:
    """One server in the running event loop: `start`, then `refresh` and `reload` again and again, at the end `stop`.

    Made and used in that loop only. Other threads meet it at three places: the HTTP port reads `Health.ready` and
    metrics, `reload` reads files in a thread, and devices, encoders and the loader have locks of their own.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Raise ModelStoreError if the store cannot be used, and ListenError if a port cannot be opened.

        Raise ConfigError for certificates and tokens that cannot be used.
        """
        most = share(file_limit(config.max_connections), config.max_connections)
        if most.grpc < config.max_connections:
            log.warning("at most %d connections over gRPC: this process may open too few files (ulimit -n)", most.grpc)
        config = replace(config, max_connections=most.grpc)
        self._config = config
        self._store_problem: str | None = None
        self._refreshing = asyncio.Lock()
        self._hang_watch = HangWatch(config.hang_s)
        self._hanging: set[str] = set()
        self._ready: set[str] = set()
        self._waiting = False
        self._started = time.monotonic()
        self._reloading: set[Reloadable[Any]] = set()  # those whose files do not answer

        self._certificates = _certificates(config)
        self._tokens = _tokens(config)

        self._metrics = Metrics()
        self._metrics.describe(config, most.http)
        self._catalog = ModelCatalog(config, self._metrics)
        self._encoders = Encoders(available_cpus(), config.batching, self._metrics)
        self._measure()

        self._quotas = Quotas()
        self._follow_tokens()
        unsent = Unsent(config.max_unsent_bytes, self._metrics)
        self._metrics.unsent_bytes.set_function(lambda: unsent.bytes)
        maker = ImageMaker(self._encoders, self._quotas, unsent, self._metrics)
        inverter = Inverter(maker, self._quotas, unsent, self._metrics)
        limits = Limits(config)

        self._gate = Gate()
        self._health = Health([progan_v1.DESCRIPTOR.full_name], self._metrics, may_use)
        images = progan_v1.ImageGeneratorServicer(self._catalog, maker, inverter, limits)
        inference = open_inference.GRPCInferenceServicer(
            self._catalog, maker, limits, self._gate, self._metrics, self._health.is_ready, self.look_now
        )
        predictions = PredictionServicer(self._catalog, maker, limits, self._health.is_ready)
        tensorflow = GrpcServicer(predictions)
        services = [
            Service(progan_v1.DESCRIPTOR, images, images.request_bytes),
            Service(open_inference.DESCRIPTOR, inference, inference.request_bytes, open_inference.HEALTH),
            Service(PREDICTION_SERVICE, tensorflow, predictions.request_bytes),
            Service(MODEL_SERVICE, tensorflow, predictions.request_bytes),
        ]
        self._count_calls(services)
        receiver = Receiver(config.max_request_bytes)
        callers = Callers()
        border = Border(self._metrics, self._gate, receiver, Sender(config.stall_s, self._metrics), callers)
        self._grpc = GrpcServer(config, border, receiver, services, self._health, self._tokens, self._certificates)
        self._connections = ConnectionWatch(self._grpc.port, config, callers, self._metrics)
        http_border = HttpBorder(self._metrics, self._gate, self._tokens)
        apart = Apart()
        self._http = HttpServer(
            config.host,
            config.http_port,
            {**probes(self._metrics.registry, lambda: self._health.ready), **self._playground()},
            most.http,
            routes=[
                *Connect(services[0], http_border, apart, config.max_request_bytes).routes(),
                *RestV2(services[1], http_border, apart, config.max_request_bytes).routes(),
                *RestV1(predictions, http_border, apart, config.max_request_bytes).routes(),
                *Images(ImageServicer(self._catalog, maker), http_border).routes(),
            ],
            guard=Guard(only_local=is_local(config.host) and not config.tls_cert and not config.tokens),
            certificates=self._certificates,
            stall_s=config.stall_s,
        )
        self._metrics.connections.labels("http").set_function(self._http.open_connections)
        self.port = self._grpc.port
        self.http_port = self._http.port

    def _playground(self) -> Pages:
        if not self._config.playground:
            return {}
        return playground(self._grpc.port, tls=self._certificates is not None, tokens=self._tokens is not None)

    def _follow_tokens(self) -> None:
        quotas = self._tokens.value.quotas if self._tokens else {}
        self._quotas.follow(quotas)
        self._metrics.callers.follow(quotas)

    def _measure(self) -> None:
        for priority in Priority:
            rows = partial(self._encoders.queued_rows, priority)
            self._metrics.encode_queue_rows.labels(priority.label).set_function(rows)
        if self._certificates:
            self._metrics.follow_certificate(partial(_expires_at, self._certificates))
        for files in self._reloadables():
            self._metrics.reloaded_at.labels(files.what).set_function(partial(_read_at, files))

    def _reloadables(self) -> list[Reloadable[Any]]:
        return [files for files in (self._certificates, self._tokens) if files]

    def _count_calls(self, services: Sequence[Service]) -> None:
        """Begin to count the calls of all methods. Those that make images yield them."""
        for service in services:
            for method in service.descriptor.methods:
                behaviour = getattr(service.servicer, method.name)
                self._metrics.know_method(method.name, makes_images=isasyncgenfunction(behaviour))
        self._metrics.know_method(IMAGE_METHOD, makes_images=True)
        self._metrics.know_method(UNKNOWN_METHOD, makes_images=False)

    async def start(self) -> None:
        """Answer calls: alive, not ready."""
        await self._health.alive()
        await self._grpc.start()
        self._http.start()

    async def look(self) -> None:
        """Know the models of the store; load nothing. A store that cannot be read is reported."""
        await self._reporting(self._catalog.look())

    async def refresh(self, patience_s: float | None = None) -> list[LoadedVersion]:
        """Serve what the store contains now, and return the models that are ready.

        patience_s   how long to wait for versions that are loaded; None: to the end. They go on being loaded
        A store that cannot be read is reported, and the models that serve go on.
        """
        async with self._refreshing:
            await self._reporting(self._catalog.refresh(patience_s))
        return self._catalog.serving_versions()

    async def look_now(self) -> None:
        """Read the store, and begin to load what is new in it."""
        await self.refresh(0)

    @property
    def loading(self) -> bool:
        """Whether versions are being loaded, or it is being found out whether they can be."""
        return self._catalog.loading

    async def _reporting(self, reading: Awaitable[None]) -> None:
        try:
            await reading
        except Exception as error:
            self._metrics.store_failures.inc()
            self._report(error)
        else:
            self._store_problem = None
        await self._update_health()

    async def watch_devices(self) -> None:
        """Take readiness from models whose device hangs, and give it back when the device goes on."""
        hanging = self._hang_watch.look(self._catalog.busy_s())
        for name in hanging - self._hanging:
            self._metrics.hangs.labels("batch").inc()
            log.error("model %s: a batch runs for more than %g s; not ready until it ends", name, self._config.hang_s)
        for name in self._hanging - hanging:
            log.warning("model %s: its device goes on", name)
        for name in hanging ^ self._hanging:
            self._metrics.model_hanging.labels(name).set(name in hanging)
        self._hanging = hanging
        if (self._ready_models(), self._is_waiting()) != (self._ready, self._waiting):
            await self._update_health()

    async def watch_connections(self) -> None:
        """Count the connections of the gRPC port, and close idle ones where there are too many."""
        await self._connections.look()

    async def reload(self) -> None:
        """Read certificates and tokens again. What cannot be used is reported, and the old ones stay in use."""
        files = [files for files in self._reloadables() if files not in self._reloading]
        await asyncio.gather(*map(self._reload, files))
        self._follow_tokens()

    async def _reload(self, files: Reloadable[Any]) -> None:
        """Reload one of them. If its files hang, nobody waits for them, and they are not read again meanwhile."""
        reading = aside(files.reload, f"reload {files.what}")
        if await in_time(reading, self._config.hang_s):
            return
        self._reloading.add(files)
        reading.add_done_callback(lambda _: self._reloading.discard(files))
        self._metrics.hangs.labels("reload").inc()
        text = "%s: their files have not answered for more than %g s; the old ones stay in use"
        log.error(text, files.what, self._config.hang_s)

    async def end(self) -> NotAcceptingError | None:
        """Return when calls are no longer accepted: the error that is the cause, or None after `stop`."""
        return await self._grpc.end()

    async def stop(self, *, lame_duck: bool = True) -> None:
        """Report not ready, serve on for the lame-duck time, then refuse new calls and finish those in flight."""
        await self._health.draining()
        await asyncio.sleep(self._config.lame_duck_s if lame_duck else 0)
        self._metrics.set_state("draining")
        try:
            async with asyncio.timeout(self._config.drain_s):
                await self._gate.close()
        except TimeoutError:
            log.warning("%d calls still run after %g s of draining; they fail", self._gate.inside, self._config.drain_s)
        self._catalog.close()
        await self._grpc.stop(_LAST_BYTES_S)
        self._encoders.close()
        await asyncio.to_thread(self._http.stop)

    async def _update_health(self) -> None:
        self._ready, self._waiting = self._ready_models(), self._is_waiting()
        await self._health.models(self._catalog.models, self._ready, waiting=self._waiting)

    def _is_waiting(self) -> bool:
        """Tell whether the default model is still to be loaded at the start: most calls are for it. Not for ever."""
        return self._catalog.default_is_coming and time.monotonic() - self._started < self._config.hang_s

    def _ready_models(self) -> set[str]:
        return {version.name for version in self._catalog.serving_versions()} - self._hanging

    def _report(self, error: Exception) -> None:
        """Log a problem of the store once, until it changes in more than numbers (times, ids)."""
        problem = re.sub(r"\d+", "#", str(error))
        if problem != self._store_problem:
            self._store_problem = problem
            trace = None if isinstance(error, OSError) else error
            log.error("the model store cannot be read; the models that serve go on: %s", error, exc_info=trace)


def _certificates(config: ServerConfig) -> Reloadable[Certificates] | None:
    if not config.tls_cert or not config.tls_key:
        return None
    return Reloadable("certificates", partial(read_certificates, config.tls_cert, config.tls_key, config.client_ca))


def _expires_at(certificates: Reloadable[Certificates]) -> float:
    return certificates.value.expires_at


def _read_at(files: Reloadable[Any]) -> float:
    return files.read_at


def _tokens(config: ServerConfig) -> Reloadable[Tokens] | None:
    return Reloadable("tokens", partial(read_tokens, config.tokens)) if config.tokens else None
