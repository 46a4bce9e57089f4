"""One `progan serve` process: signals, periodic work, and lines about both."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable

from progan_service.host.signals import take_over
from progan_service.serving.access.exposure import warnings
from progan_service.serving.config import ServerConfig
from progan_service.serving.listen import NotAcceptingError
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.server import Server
from progan_service.serving.watching.logs import announce

log = logging.getLogger(__name__)

_RELOAD_S = 5  # between two reads of certificates and tokens; Kubernetes takes a minute to replace them
_DEVICES_S = 1  # between two checks whether a device hangs
_CONNECTIONS_S = 0.25  # between two looks at the connections of the gRPC port; a client tries again for 0.7 s
_ONE_SIGNAL_S = 1  # signals within this time are one
_FORCED_EXIT_CODE = 1


async def serve(config: ServerConfig) -> None:
    """Serve until a signal comes, then drain.

    Raise NotAcceptingError, after the drain, if the server has stopped accepting calls.
    """
    stopping = _on_signals()
    server = Server(config)
    for line in warnings(config):
        log.warning(line)
    await server.start()
    announce(
        f"listening: gRPC {config.host}:{server.port}, HTTP {config.host}:{server.http_port}"
        f"{_page(config, server.http_port)}; loading models ...",
        port=server.port,
        http_port=server.http_port,
    )
    tasks = [
        asyncio.create_task(_serve_store(server, config)),
        asyncio.create_task(_every(_DEVICES_S, server.watch_devices)),
        asyncio.create_task(_every(_CONNECTIONS_S, server.watch_connections)),
        asyncio.create_task(_every(_RELOAD_S, server.reload)),
    ]
    error = await _end(server, stopping)
    if error:
        log.critical("%s; the calls that run have up to %g s to finish", error, config.drain_s)
    else:
        announce(f"shutting down: {config.lame_duck_s:g} s of lame duck, then up to {config.drain_s:g} s of draining")
    for task in tasks:
        task.cancel()
    await server.stop(lame_duck=not error)
    take_over(signal.SIG_IGN)  # Python gives up its handlers when it ends, and the process would die of a signal
    if error:
        raise error


async def _end(server: Server, stopping: asyncio.Event) -> NotAcceptingError | None:
    """Return at a signal, or with the error that keeps the server from accepting calls."""
    end, signalled = asyncio.create_task(server.end()), asyncio.create_task(stopping.wait())
    await asyncio.wait({end, signalled}, return_when=asyncio.FIRST_COMPLETED)
    return end.result() if end.done() else None


def _on_signals() -> asyncio.Event:
    """Return the event that the first signal sets. A second one, more than a second later, ends the process at once.

    make and timeout(1) pass a signal on that has already reached the process: it comes twice.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    first: float | None = None

    def on_signal(*_: object) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            loop.call_soon_threadsafe(stopping.set)
        elif time.monotonic() - first > _ONE_SIGNAL_S:
            os._exit(_FORCED_EXIT_CODE)

    # Not the loop's own handlers: those are gone when the loop has ended, and the second signal would end the process.
    take_over(on_signal)
    return stopping


async def _every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await action()
        except Exception:  # else the next thousand times would be lost for one
            log.exception("periodic work failed; it is tried again in %g s", seconds)


async def _serve_store(server: Server, config: ServerConfig) -> None:
    """Poll the store, and announce each model when it is first ready. No poll waits for a version that is loaded.

    Its largest batch is announced again when it has changed.
    """
    started = time.monotonic()
    announced: dict[str, int] = {}  # the largest batch of each model
    starting = True
    while True:
        polled = time.monotonic()
        ready = await server.refresh(config.poll_s)
        for version in ready:
            batch = version.batcher.max_batch_size
            if version.name not in announced:
                _announce_ready(version, f", after {time.monotonic() - started:.1f} s" if starting else "")
            elif batch != announced[version.name]:
                log.info("model %s: up to %d images a batch from now on", version.name, batch)
            announced[version.name] = batch
        if starting and not server.loading:
            starting = False
            if not ready:
                announce(
                    f"not ready: {config.store} holds no model that can be served; looking every {config.poll_s:g} s"
                )
        await asyncio.sleep(max(0.0, polled + config.poll_s - time.monotonic()))


def _page(config: ServerConfig, port: int) -> str:
    if not config.playground:
        return ""
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(config.host, config.host)
    return f"; a page at http{'s' if config.tls_cert else ''}://{f'[{host}]' if ':' in host else host}:{port}/"


def _announce_ready(version: LoadedVersion, after: str) -> None:
    size, batch = f"{version.metadata.resolution}x{version.metadata.resolution}", version.batcher.max_batch_size
    how = f"{version.precision}, up to {batch} images a batch"
    announce(
        f"ready: {version.name} version {version.number}, {size}, {how}{after}",
        model=version.name,
        version=version.number,
        precision=version.precision,
        max_batch_size=batch,
    )
