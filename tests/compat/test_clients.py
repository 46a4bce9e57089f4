"""The clients that people have: the same latents give the same bytes by all of them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
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
    "kserve rest v1",
    "tensorflow serving",
]
TRITON = ["tritonclient.grpc", "tritonclient.http"]


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
    rows = np.load(latents)
    with Client(f"127.0.0.1:{server.port}") as client:
        return {
            "latents": digest(client.generate(latents=rows).pixels),
            "seeds": digest(client.generate(seeds=[1337, 2**64 - 1]).pixels),
            "parameter": digest(client.generate(seeds=[2**64 - 1, 0]).pixels),
            "FP16": digest(client.generate(latents=rows.astype(np.float16).astype(np.float32)).pixels),
            "BF16": digest(client.generate(latents=rows.astype(ml_dtypes.bfloat16).astype(np.float32)).pixels),
        }


@pytest.mark.parametrize("client", CLIENTS)
def test_the_same_images_by_every_client(
    seen: dict[str, dict[str, Any]], expected: dict[str, str], client: str
) -> None:
    images = {kind: seen[client][kind] for kind in ("latents", "seeds") if kind in seen[client]}
    assert images == {kind: expected[kind] for kind in images}


@pytest.mark.parametrize("client", [*TRITON, "tritonclient.grpc.aio", "kserve grpc", "kserve rest", "kserve rest v1"])
def test_the_server_is_live_and_ready_and_an_unknown_model_is_not(seen: dict[str, dict[str, Any]], client: str) -> None:
    assert all(seen[client]["health"])
    assert not seen[client].get("stranger")


@pytest.mark.parametrize("client", [*TRITON, "tritonclient.grpc.aio"])
def test_metadata_and_configuration_come_as_the_client_reads_them(seen: dict[str, dict[str, Any]], client: str) -> None:
    metadata, config = seen[client]["metadata"], seen[client]["config"]
    assert [output["name"] for output in metadata["outputs"]] == ["images"]
    assert config.get("config", config)["max_batch_size"] == 256


@pytest.mark.parametrize("client", TRITON)
def test_the_repository_and_statistics_are_told(seen: dict[str, dict[str, Any]], client: str) -> None:
    index, [statistics] = seen[client]["index"], seen[client]["statistics"]["model_stats"]
    assert [model["state"] for model in (index["models"] if isinstance(index, dict) else index)] == ["READY"]
    assert (statistics["name"], statistics["version"]) == ("tiny", "1")


@pytest.mark.parametrize("client", TRITON)
def test_half_floats_are_converted_and_a_seed_may_be_a_parameter(
    seen: dict[str, dict[str, Any]], expected: dict[str, str], client: str
) -> None:
    assert {key: seen[client][key] for key in ("FP16", "BF16", "parameter")} == {
        key: expected[key] for key in ("FP16", "BF16", "parameter")
    }


@pytest.mark.parametrize("client", TRITON)
def test_a_request_gets_its_id_back(seen: dict[str, dict[str, Any]], client: str) -> None:
    assert seen[client]["id"] == "844424930132059"


@pytest.mark.parametrize("client", TRITON)
def test_requests_may_be_compressed(seen: dict[str, dict[str, Any]], expected: dict[str, str], client: str) -> None:
    assert seen[client]["compressed"] == [expected["seeds"]] * 2


def test_over_http_tensors_go_and_come_as_binary_data_or_json(
    seen: dict[str, dict[str, Any]], expected: dict[str, str]
) -> None:
    assert seen["tritonclient.http"]["ways"] == [expected["latents"]] * 4
    assert [seen["kserve rest"][way] for way in ("binary", "dict")] == [expected["latents"]] * 2
    assert seen["kserve grpc"]["binary"] == expected["latents"]


@pytest.mark.parametrize("client", TRITON)
def test_clients_show_why_something_is_refused(seen: dict[str, dict[str, Any]], client: str) -> None:
    assert seen[client]["refusals"] == {
        "metadata": "no model 'stranger'; this server has: tiny",
        "infer": "latents: is 5; must be 16, the latent_size of the model",
        "unload": "the store decides which models are loaded; take 'tiny' out of it",
        "memory": "shared memory is not supported; send the values in the request",
        "log": "the log is set when the server starts: --log-level",
    }
    assert seen["kserve rest"]["refusals"]["infer"].startswith(
        "latents: is 5; must be 16, the latent_size of the model, '400 "
    )


def test_a_stream_survives_a_bad_request(seen: dict[str, dict[str, Any]], expected: dict[str, str]) -> None:
    stream, aio = seen["tritonclient.grpc stream"], seen["tritonclient.grpc.aio"]
    assert (stream["all"], stream["errors"]) == ([True, True, True], 1)
    assert (aio["stream"], aio["errors"]) == ([expected["seeds"]] * 3, 1)


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
        "kserve rest v1",
        "tensorflow serving",
    }


def test_what_tensorflow_serving_tells_of_a_model(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["tensorflow serving"]["states"] == [30]  # AVAILABLE
    assert seen["tensorflow serving"]["metadata"] == ["signature_def"]


def test_tensorflow_servings_halves_are_converted(seen: dict[str, dict[str, Any]], expected: dict[str, str]) -> None:
    assert seen["tensorflow serving"]["float16"] == expected["FP16"]
