"""Callers over HTTP, and the servers that they call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web import Web

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server

ALICE = "alices-token-0123456789"


@pytest.fixture(scope="module")
def puppets(puppet_store: Path, run_server: Any) -> Iterator[Server]:
    """A server of puppets whose default model is `puppet`: at most 12 images a call, and 32 that wait."""
    batching = BatchingConfig(max_batch_size=4, max_queued_rows=32)
    settings = {"lame_duck_s": 0, "model": "puppet", "max_images": 12, "batching": batching}
    with run_server(ServerConfig(puppet_store, port=0, http_port=0, **settings)) as server:
        yield server


@pytest.fixture(scope="module")
def web(puppets: Server) -> Web:
    return Web(puppets.http_port)


@pytest.fixture(scope="session")
def guarded(tiny_store: Path, run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the tiny model that knows alice, and bob, who may use another model only."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"alice {ALICE}\nbob bobs-token-0123456789 models=other\n")
    with run_server(ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, tokens=tokens)) as server:
        yield server


@pytest.fixture(scope="module")
def tiny(server: Server) -> Web:
    """A caller of the server with the tiny model, which draws."""
    return Web(server.http_port)
