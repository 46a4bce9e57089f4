"""Real things made tiny: a model of 8x8 pixels in a store, and servers on free loopback ports."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as for every command

from progan_service.model.config import NetworkConfig
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server
from progan_service.store.store import ModelStore

TINY = NetworkConfig(resolution=8, fmap_base=64, fmap_max=16)

# The everyday run tries the same examples each time. `make soak` searches at random; what it finds becomes an @example.
settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "random", settings.get_profile("fixed"), derandomize=False, max_examples=1000, print_blob=True
)
settings.load_profile("fixed")

# Under nohup, or in the background of a script, signals are ignored. Processes that tests start would inherit that; a
# handler they do not.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# Without AVX-512, TensorFlow's convolutions round differently for other batch sizes. With one size alone, an image is
# the same to the bit whatever comes beside it, on every processor.
ONE_SIZE = BatchingConfig(max_batch_size=16, allowed_batch_sizes=(16,))

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one model, `tiny`, version 1: untrained, latent size 16, 8x8 RGB."""
    import keras

    from progan_service.export.exportable import Exportable
    from progan_service.export.trained import TrainedGenerator
    from progan_service.export.version import export_version
    from progan_service.model.networks import Generator

    store = ModelStore(tmp_path_factory.mktemp("store"))
    keras.utils.set_random_seed(0)
    trained = TrainedGenerator(Generator(TINY), 8, 1.0, (), {"source": "tests"})
    export_version(Exportable.of(trained), store, "tiny")
    return store.root


@pytest.fixture(scope="session")
def server(tiny_store: Path) -> Iterator[Server]:
    """A ready server with the tiny model. Its batches have one size: see `ONE_SIZE`."""
    with running_server(ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, batching=ONE_SIZE)) as server:
        yield server


@pytest.fixture(scope="session")
def server_target(server: Server) -> str:
    """Where that server listens."""
    return f"127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
def one_size() -> BatchingConfig:
    """Batches of one size, for images that are compared to the bit."""
    return ONE_SIZE


@pytest.fixture(scope="session")
def run_server() -> RunServer:
    """Starts a server of one's own: `with run_server(config) as server`, ready and on server.port."""
    return running_server


@contextmanager
def running_server(config: ServerConfig) -> Iterator[Server]:
    """A server in an event loop and thread of its own, loaded; stopped at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server")
    thread.start()

    async def start() -> Server:
        server = Server(config)
        await server.start()
        await server.refresh()
        return server

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=300)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(timeout=300)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
