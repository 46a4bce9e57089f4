"""What a person on call reads: every series is there before its first event, and says what is true."""

from pathlib import Path
from typing import Any

import pytest
from web import Web

from progan_service.serving.config import ServerConfig
from progan_service.serving.grpc.health import Health
from progan_service.serving.server import Server
from progan_service.serving.watching.metrics import Metrics

STATES = ("not_ready", "ready", "lame_duck", "draining")


def samples(port: int) -> dict[str, float]:
    lines = Web(port).get("/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def state(of: dict[str, float]) -> list[str]:
    return [name for name in STATES if of[f'progan_state{{state="{name}"}}']]


def test_a_server_of_an_empty_store_says_that_it_is_not_ready(tmp_path: Path, run_server: Any) -> None:
    with run_server(ServerConfig(tmp_path, port=0, http_port=0, lame_duck_s=0)) as empty:
        found = samples(empty.http_port)
    assert (found["progan_ready"], state(found)) == (0, ["not_ready"])


def test_the_first_failure_of_a_model_is_an_increase(server: Server) -> None:
    found = samples(server.http_port)
    failures = {name: value for name, value in found.items() if name.startswith("progan_model_load_failures_total")}
    assert failures == {
        f'progan_model_load_failures_total{{model="tiny",reason="{reason}"}}': 0
        for reason in ("invalid", "unreadable", "rollout", "memory", "error")
    }
    assert (found["progan_ready"], state(found)) == (1, ["ready"])


def test_what_runs_is_said(server: Server) -> None:
    [build] = [name for name in samples(server.http_port) if name.startswith("progan_build_info")]
    assert 'version="0.1.0"' in build
    assert 'tensorflow="2.' in build


@pytest.mark.parametrize("code", ["OK", "INVALID_ARGUMENT"])
def test_the_time_of_refusals_is_apart_from_that_of_answers(server: Server, code: str) -> None:
    rows = 1 if code == "OK" else 0
    sample = f'progan_request_duration_seconds_count{{code="{code}",method="Generate",model="tiny"}}'
    before = samples(server.http_port).get(sample, 0)
    request = {"latents": {"seedRange": {"count": rows}}}
    Web(server.http_port).post("/progan.v1.ImageGeneratorService/Generate", request)
    assert samples(server.http_port)[sample] == before + 1


async def test_a_server_that_leaves_is_not_ready_from_its_lame_duck_on() -> None:
    metrics = Metrics()
    health = Health(["images"], metrics, lambda model: True)
    await health.alive()
    await health.models(["tiny"], ["tiny"])
    assert metrics.registry.get_sample_value("progan_ready") == 1
    await health.draining()
    assert metrics.registry.get_sample_value("progan_ready") == 0
    assert metrics.registry.get_sample_value("progan_state", {"state": "lame_duck"}) == 1
