"""Callers of the Open Inference Protocol, and the servers that they call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from open_inference import Caller

from progan_service.serving.config import BatchingConfig, ServerConfig


@pytest.fixture(scope="module")
def puppets(puppet_store: Path, run_server: Any) -> Iterator[Any]:
    """A server of puppets whose default model is `puppet`."""
    batching = BatchingConfig(max_batch_size=4)
    config = ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="puppet", batching=batching)
    with run_server(config) as server:
        yield server


@pytest.fixture(scope="module")
def caller(puppets: Any) -> Iterator[Caller]:
    caller = Caller(f"127.0.0.1:{puppets.port}")
    yield caller
    caller.channel.close()


@pytest.fixture
def tiny(server_target: str) -> Iterator[Caller]:
    """A caller of the server with the tiny model, which draws."""
    caller = Caller(server_target)
    yield caller
    caller.channel.close()
