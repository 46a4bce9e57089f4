"""What a person on call reads: every series is there before its first event, and says what is true."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2
from opentelemetry.sdk.trace import TracerProvider
from web import Answer, Web

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.config import ServerConfig
from progan_service.serving.grpc.health import Health
from progan_service.serving.server import Server
from progan_service.serving.watching import traces
from progan_service.serving.watching.metrics import Metrics

STATES = ("not_ready", "ready", "lame_duck", "draining")


def samples(port: int) -> dict[str, float]:
    lines = Web(port).get("/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def until(holds: Callable[[], bool]) -> None:
    """A caller may have its answer before the server has counted it."""
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


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


def test_what_runs_is_said(tmp_path: Path, run_server: Any) -> None:
    config = ServerConfig(tmp_path, port=0, http_port=0, lame_duck_s=0, revision="5ccefbc", precision="auto")
    with run_server(config) as empty:
        [build] = [name for name in samples(empty.http_port) if name.startswith("progan_build_info")]
    labels = dict(re.findall(r'(\w+)="(.*?)"', build))
    assert labels.pop("tensorflow").startswith("2.")
    assert labels == {"version": "0.1.0", "revision": "5ccefbc", "precision": "auto"}


def test_a_server_at_rest_says_what_it_can_do(server: Server) -> None:
    found = samples(server.http_port)
    assert found['progan_capacity_images_per_second{model="tiny"}'] > 0
    limits = {name: value for name, value in found.items() if name.startswith("progan_max_")}
    assert limits == {
        'progan_max_batch_rows{model="tiny"}': 16,
        "progan_max_queued_rows": 1024,
        "progan_max_unsent_bytes": 256 * 2**20,
        'progan_max_connections{port="grpc"}': 800,
        'progan_max_connections{port="http"}': 96,
    }
    assert found['progan_model_hanging{model="tiny"}'] == 0
    assert not [name for name in found if "certificate" in name or "reload_success" in name or "device_memory" in name]


def test_counters_begin_at_zero_and_a_thousand_servers_make_no_million_of_series(
    publish_puppet: Any, tmp_path: Path, run_server: Any
) -> None:
    publish_puppet(tmp_path, "puppet")
    with run_server(ServerConfig(tmp_path, port=0, http_port=0, lame_duck_s=0)) as fresh:
        found = samples(fresh.http_port)
    for method in ("Generate", "StreamGenerate", "Interpolate", "ModelInfer", "Predict", "GetImage"):
        assert found[f'progan_request_duration_seconds_count{{code="OK",method="{method}",model="puppet"}}'] == 0
        for code in ("OK", "INTERNAL", "RESOURCE_EXHAUSTED", "CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE"):
            assert found[f'progan_requests_total{{code="{code}",method="{method}",model="puppet"}}'] == 0
    assert found['progan_requests_total{code="UNAUTHENTICATED",method="Generate",model=""}'] == 0
    assert found['progan_requests_total{code="INTERNAL",method="ListModels",model=""}'] == 0
    assert found['progan_images_total{model="puppet",version="1"}'] == 0
    for reason in ("cancelled", "expired", "rejected"):
        assert found[f'progan_rows_dropped_total{{model="puppet",reason="{reason}"}}'] == 0
    for what in ("look", "load", "reload", "batch"):
        assert found[f'progan_hangs_total{{what="{what}"}}'] == 0
    assert found['progan_rows_wasted_total{model="puppet"}'] == found['progan_out_of_memory_total{model="puppet"}'] == 0
    assert found["progan_requests_unread_total"] == found["progan_store_failures_total"] == 0
    assert len(found) < 600


def test_the_time_to_the_first_image_of_a_stream_is_measured_once(server: Server) -> None:
    sample = 'progan_first_image_seconds_count{method="StreamGenerate",model="tiny"}'
    before = samples(server.http_port).get(sample, 0)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = pb.StreamGenerateRequest(latents=pb.Latents(seed_range=pb.SeedRange(count=100)))
        stream = pb_grpc.ImageGeneratorServiceStub(channel).StreamGenerate(request, timeout=60)
        next(stream)
        assert samples(server.http_port)[sample] == before + 1  # while it goes on
        assert len(list(stream)) > 1
    assert samples(server.http_port)[sample] == before + 1


def test_streams_of_an_hour_have_a_bucket(server: Server) -> None:
    labels = 'code="OK",le="3600.0",method="StreamGenerate",model="tiny"'
    assert f"progan_request_duration_seconds_bucket{{{labels}}}" in samples(server.http_port)


def test_an_exemplar_leads_from_a_duration_to_its_trace_where_it_is_asked_for(server: Server) -> None:
    def ask_for_open_metrics() -> Answer:
        return Web(server.http_port).get("/metrics", Accept="application/openmetrics-text; version=1.0.0")

    trace = "0af7651916cd43dd8448eb211c80319c"
    with traces.recording(TracerProvider(shutdown_on_exit=False)):
        request = {"latents": {"seedRange": {"count": 1}}}
        parent = f"00-{trace}-b7ad6b7169203331-01"
        Web(server.http_port).post("/progan.v1.ImageGeneratorService/Generate", request, traceparent=parent)
        until(lambda: trace in ask_for_open_metrics().body.decode())
    open_metrics = ask_for_open_metrics()
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    page = open_metrics.body.decode()
    assert page.endswith("# EOF\n")
    [exemplar] = {
        line.partition(" # ")[2].partition(" ")[0]
        for line in page.splitlines()
        if line.startswith("progan_request_duration_seconds_bucket") and trace in line
    }
    assert exemplar == f'{{trace_id="{trace}"}}'
    plain = Web(server.http_port).get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert trace not in plain.body.decode()


async def test_certificates_and_tokens_tell_how_old_they_are(tmp_path: Path, run_server: Any, tiny_store: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", not_after=datetime(2100, 1, 1, tzinfo=UTC))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    (tmp_path / "tokens").write_text("alice alices-token-0123456789\n")
    files = {"tls_cert": tmp_path / "pem", "tls_key": tmp_path / "pem", "tokens": tmp_path / "tokens"}
    began = time.time()
    with run_server(ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, **files)) as guarded:
        registry = guarded._metrics.registry
    assert registry.get_sample_value("progan_certificate_expiry_timestamp_seconds") == 4102444800
    for what in ("certificates", "tokens"):
        read_at = registry.get_sample_value("progan_reload_success_timestamp_seconds", {"what": what})
        assert began <= (read_at or 0) <= time.time()


async def test_a_device_that_hangs_is_counted_and_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> tuple[float | None, float | None]:
        registry = server._metrics.registry
        return (
            registry.get_sample_value("progan_model_hanging", {"model": "tiny"}),
            registry.get_sample_value("progan_hangs_total", {"what": "batch"}),
        )

    hanging: set[str] = {"tiny"}
    monkeypatch.setattr(server._hang_watch, "look", lambda busy_s: set(hanging))
    for _ in range(2):
        await server.watch_devices()
    assert seen() == (1, 1)
    hanging.clear()
    await server.watch_devices()
    assert seen() == (0, 1)


@pytest.mark.parametrize("code", ["OK", "INVALID_ARGUMENT"])
def test_the_time_of_refusals_is_apart_from_that_of_answers(server: Server, code: str) -> None:
    rows = 1 if code == "OK" else 0
    sample = f'progan_request_duration_seconds_count{{code="{code}",method="Generate",model="tiny"}}'
    before = samples(server.http_port).get(sample, 0)
    request = {"latents": {"seedRange": {"count": rows}}}
    Web(server.http_port).post("/progan.v1.ImageGeneratorService/Generate", request)
    until(lambda: samples(server.http_port).get(sample, 0) == before + 1)


async def test_a_model_that_has_left_the_store_is_no_model_that_is_not_ready() -> None:
    metrics = Metrics()
    health = Health(["images"], metrics, lambda model: True)
    await health.models(["tiny", "gone"], ["tiny"])
    await health.models(["tiny"], ["tiny"])
    ready = {
        model: metrics.registry.get_sample_value("progan_model_ready", {"model": model}) for model in ("tiny", "gone")
    }
    assert ready == {"tiny": 1, "gone": None}
    assert health.servicer.statuses["images/gone"] == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_server_that_waits_for_its_default_model_is_not_ready_though_another_is() -> None:
    metrics = Metrics()
    health = Health(["images"], metrics, lambda model: True)
    await health.models(["another", "default"], ["another"], waiting=True)
    assert metrics.registry.get_sample_value("progan_ready") == 0
    assert health.servicer.statuses["images"] == health_pb2.HealthCheckResponse.NOT_SERVING
    assert health.servicer.statuses["images/another"] == health_pb2.HealthCheckResponse.SERVING
    await health.models(["another", "default"], ["another", "default"], waiting=False)
    assert metrics.registry.get_sample_value("progan_ready") == 1


async def test_a_server_that_leaves_is_not_ready_from_its_lame_duck_on() -> None:
    metrics = Metrics()
    health = Health(["images"], metrics, lambda model: True)
    await health.alive()
    await health.models(["tiny"], ["tiny"])
    assert metrics.registry.get_sample_value("progan_ready") == 1
    await health.draining()
    assert metrics.registry.get_sample_value("progan_ready") == 0
    assert metrics.registry.get_sample_value("progan_state", {"state": "lame_duck"}) == 1
