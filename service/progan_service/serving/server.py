"""serve(): build, wire, listen, load, wait for a signal, drain."""

import asyncio
import logging
import os
import re
import signal
import time
from functools import partial

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from progan_service.host.cpus import available_cpus
from progan_service.serving.access.certificates import read_certificates
from progan_service.serving.access.exposure import warnings
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import read_tokens
from progan_service.serving.batching.queue import Priority
from progan_service.serving.config import ServerConfig
from progan_service.serving.files.encoders import Encoders
from progan_service.serving.grpc.auth import Authentication
from progan_service.serving.grpc.border import rpc_handlers
from progan_service.serving.grpc.health import SERVICE, Health
from progan_service.serving.grpc.progan_v1.servicer import ImageGeneratorServicer
from progan_service.serving.grpc.transport import credentials, options
from progan_service.serving.http.server import HttpServer
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.listen import bind_error, refusal
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.logs import announce
from progan_service.serving.watching.metrics import Metrics

log = logging.getLogger(__name__)

_RELOAD_S = 5  # between two looks at certificates and tokens; Kubernetes takes a minute to replace them
_DEVICES_S = 1  # between two looks at whether a device hangs
_LAST_BYTES_S = 1  # what finished replies get to reach their callers
_FORCED_EXIT_CODE = 1


class Server:
    """One server in the running event loop. `start`, then `refresh` and `reload` again and again, at the end `stop`."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises ModelStoreError when the store cannot be used, ListenError when a port cannot be taken.

        Raises ConfigError for certificates and tokens that cannot be used.
        """
        self._config = config
        self._tls, self._tokens = None, None
        if config.tls_cert and config.tls_key:
            read = partial(read_certificates, config.tls_cert, config.tls_key, config.client_ca)
            self._tls = Reloadable("certificates", read)
        if config.tokens:
            self._tokens = Reloadable("tokens", partial(read_tokens, config.tokens))
        self._metrics = Metrics()
        self._store_problem: str | None = None
        self._hanging: set[str] = set()
        self._health = Health(self._metrics)
        self._catalog = ModelCatalog(config, self._metrics)
        self._encoders = Encoders(available_cpus(), config.batching, self._metrics)
        for priority in Priority:
            name = priority.name.lower()
            self._metrics.queue_rows.labels(name).set_function(partial(self._catalog.queued_rows, priority))
            self._metrics.encode_queue_rows.labels(name).set_function(partial(self._encoders.queued_rows, priority))
        self._gate = Gate()
        maker = ImageMaker(config.batching.max_batch_size, self._encoders, self._metrics)
        guards = [Authentication(self._tokens, self._metrics)] if self._tokens else []
        self._grpc = grpc.aio.server(interceptors=guards, options=options(config))
        servicer = ImageGeneratorServicer(config, self._catalog, maker)
        self._grpc.add_generic_rpc_handlers((rpc_handlers(servicer, self._metrics, self._gate),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._grpc)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)
        self.port = self._listen()
        try:
            self._http = HttpServer(config.host, config.http_port, self._metrics.registry, lambda: self._health.ready)
        except OSError as error:
            raise refusal("HTTP", config.host, config.http_port, "--http-port", error) from error
        self.http_port = self._http.port

    def _listen(self) -> int:
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        address = f"{host}:{self._config.port}"
        try:
            if self._tls:
                return self._grpc.add_secure_port(address, credentials(self._tls))
            return self._grpc.add_insecure_port(address)
        except RuntimeError:  # which does not say why; the system does
            reason = bind_error(self._config.host, self._config.port)
            raise refusal("gRPC", self._config.host, self._config.port, "--port", reason) from reason

    async def start(self) -> None:
        """Answer calls: alive, not ready."""
        await self._health.alive()
        await self._catalog.read_store()
        await self._health.models(self._catalog.models, [])
        await self._grpc.start()
        self._http.start()

    async def refresh(self) -> list[LoadedVersion]:
        """Look at the store and serve what it holds; the models that are ready now.

        A store that cannot be read is reported; what serves goes on.
        """
        try:
            await self._catalog.refresh()
        except Exception as error:
            self._metrics.store_failures.inc()
            self._report(error)
        else:
            self._store_problem = None
        await self._tell_health()
        return self._catalog.serving_versions()

    async def watch_devices(self) -> None:
        """A model whose device hangs is not ready until the device goes on."""
        hanging = self._catalog.hanging()
        for name in hanging - self._hanging:
            log.error("model %s: a batch runs for more than %g s; not ready until it ends", name, self._config.hang_s)
        for name in self._hanging - hanging:
            log.warning("model %s: its device goes on", name)
        if hanging != self._hanging:
            self._hanging = hanging
            await self._tell_health()

    async def _tell_health(self) -> None:
        ready = {model.name for model in self._catalog.serving_versions()}
        await self._health.models(self._catalog.models, ready - self._hanging)

    def _report(self, error: Exception) -> None:
        """Once, as long as it stays the same but for numbers (times, ids); a fault of ours with its stack trace."""
        told, self._store_problem = self._store_problem, re.sub(r"\d+", "#", str(error))
        if self._store_problem != told:
            trace = None if isinstance(error, OSError) else error
            log.error("the store could not be looked at; what serves goes on: %s", error, exc_info=trace)

    async def reload(self) -> None:
        """Use certificates and tokens as their files are now; a broken one is reported, and what was there holds."""
        for kept in (self._tls, self._tokens):
            if kept:
                await asyncio.to_thread(kept.reload)

    async def stop(self) -> None:
        """Say not ready, serve on for the lame-duck time, then refuse new work and finish what is in flight."""
        await self._health.draining()
        await asyncio.sleep(self._config.lame_duck_s)
        try:
            async with asyncio.timeout(self._config.drain_s):
                await self._gate.close()
        except TimeoutError:
            log.warning("%d calls still run after %g s of draining; they fail", self._gate.inside, self._config.drain_s)
        self._catalog.close()
        await self._grpc.stop(grace=_LAST_BYTES_S)
        self._encoders.close()
        self._http.stop()


async def _watch(server: Server, config: ServerConfig) -> None:
    started = time.monotonic()
    announced: set[str] = set()
    first_look = True
    while True:
        ready = await server.refresh()
        for model in ready:
            if model.name not in announced:
                size, batch = f"{model.metadata.resolution}x{model.metadata.resolution}", model.batcher.max_batch_size
                how = f"{model.precision}, up to {batch} images a batch"
                after = f", after {time.monotonic() - started:.1f} s" if first_look else ""
                announce(
                    f"ready: {model.name} version {model.version}, {size}, {how}{after}",
                    model=model.name,
                    version=model.version,
                    precision=model.precision,
                    max_batch_size=batch,
                )
        if first_look and not ready:
            announce(f"not ready: {config.store} holds no model that can be served; looking every {config.poll_s:g} s")
        announced |= {model.name for model in ready}
        first_look = False
        await asyncio.sleep(config.poll_s)


async def _keep_current(server: Server) -> None:
    while True:
        await asyncio.sleep(_RELOAD_S)
        await server.reload()


async def _watch_devices(server: Server) -> None:
    while True:
        await asyncio.sleep(_DEVICES_S)
        await server.watch_devices()


async def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once."""
    server = Server(config)
    for line in warnings(config):
        log.warning(line)
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(_FORCED_EXIT_CODE)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    await server.start()
    announce(
        f"listening: gRPC {config.host}:{server.port}, HTTP {config.host}:{server.http_port}; loading models ...",
        port=server.port,
        http_port=server.http_port,
    )
    watches = (_watch(server, config), _watch_devices(server), _keep_current(server))
    tasks = [asyncio.create_task(watch) for watch in watches]
    await stopping.wait()
    announce(f"shutting down: {config.lame_duck_s:g} s of lame duck, then up to {config.drain_s:g} s of draining")
    for task in tasks:
        task.cancel()
    await server.stop()
