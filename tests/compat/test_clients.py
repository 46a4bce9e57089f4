"""The clients that people have: the same latents give the same bytes by all of them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progan_client import Client
from progan_service.serving.config import ServerConfig

pytestmark = pytest.mark.compat

ROOT = Path(__file__).parents[2]
STUBS = {**os.environ, "PYTHONPATH": str(ROOT / ".venv-compat/tensorflow-serving")}
TOKEN = "alices-token-0123456789"
CLIENTS = [
    "tritonclient.grpc",
    "tritonclient.http",
    "tritonclient.grpc.aio",
    "tritonclient.grpc stream",
    "kserve grpc",
    "kserve rest",
    "tensorflow serving",
]


def digest(pixels: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def asked(server: Any, latents: Path, *token: str) -> dict[str, dict[str, Any]]:
    """What each client got."""
    seen: dict[str, dict[str, Any]] = {}
    apart, ours = ROOT / ".venv-compat/bin/python", Path(sys.executable)  # ours has TensorFlow
    for script, python in (("triton_clients.py", apart), ("kserve_clients.py", apart), ("tfserving_clients.py", ours)):
        command = [python, Path(__file__).parent / script]
        targets = [f"127.0.0.1:{server.port}", f"127.0.0.1:{server.http_port}", "tiny", latents, *token]
        run = subprocess.run(
            list(map(str, [*command, *targets])), capture_output=True, text=True, timeout=300, env=STUBS
        )
        assert run.returncode == 0, run.stderr[-2000:]
        seen |= json.loads(run.stdout.splitlines()[-1])
    return seen


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("latents") / "latents.npy"
    np.save(file, np.random.default_rng(5).standard_normal((3, 16), np.float32))
    return file


@pytest.fixture(scope="module")
def seen(server: Any, latents: Path) -> dict[str, dict[str, Any]]:
    return asked(server, latents)


@pytest.fixture(scope="module")
def expected(server: Any, latents: Path) -> dict[str, str]:
    """What this project's client gets."""
    with Client(f"127.0.0.1:{server.port}") as client:
        return {
            "latents": digest(client.generate(latents=np.load(latents)).pixels),
            "seeds": digest(client.generate(seeds=[1337, 2**64 - 1]).pixels),
        }


@pytest.mark.parametrize("client", CLIENTS)
def test_the_same_images_by_every_client(
    seen: dict[str, dict[str, Any]], expected: dict[str, str], client: str
) -> None:
    images = {kind: seen[client][kind] for kind in ("latents", "seeds") if kind in seen[client]}
    assert images == {kind: expected[kind] for kind in images}


@pytest.mark.parametrize("client", ["tritonclient.grpc", "tritonclient.http", "kserve grpc", "kserve rest"])
def test_health(seen: dict[str, dict[str, Any]], client: str) -> None:
    assert all(seen[client]["health"])
    assert not seen[client].get("stranger")


def test_a_stream_survives_a_bad_request(seen: dict[str, dict[str, Any]]) -> None:
    stream = seen["tritonclient.grpc stream"]
    assert (stream["all"], stream["errors"]) == ([True, True, True], 1)


def test_with_a_token(tiny_store: Path, run_server: Any, latents: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"alice {TOKEN}\n")
    config = ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, tokens=tmp_path / "tokens")
    with run_server(config) as server:
        found = asked(server, latents, TOKEN)
    assert found.keys() == {
        "tritonclient.grpc",
        "tritonclient.http",
        "kserve grpc",
        "kserve rest",
        "tensorflow serving",
    }


def test_what_tensorflow_serving_tells_of_a_model(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["tensorflow serving"]["states"] == [30]  # AVAILABLE
    assert seen["tensorflow serving"]["metadata"] == ["signature_def"]
