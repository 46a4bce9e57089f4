"""Calls as spans of OpenTelemetry, with the SDK itself and a collector that is a real gRPC server."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.protocols.progan_v1.servicer import ImageGeneratorServicer
from progan_service.serving.watching import traces

PATIENCE_S = 60
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
GENERATE = "progan.v1.ImageGeneratorService/Generate"
PNG = pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG)


class Spans:
    """The spans that are over."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def of_call(self) -> dict[str, list[ReadableSpan]]:
        """By name, once the call itself is over."""
        until(lambda: any("/" in span.name for span in self._exporter.get_finished_spans()))
        found: dict[str, list[ReadableSpan]] = {}
        for span in self._exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.fixture
def spans() -> Iterator[Spans]:
    recorded = Spans()
    with traces.recording(recorded.provider):
        yield recorded


@pytest.fixture
def tiny(server_target: str) -> Iterator[pb_grpc.ImageGeneratorServiceStub]:
    with grpc.insecure_channel(server_target) as channel:
        yield pb_grpc.ImageGeneratorServiceStub(channel)


def seeds(count: int) -> pb.Latents:
    return pb.Latents(seed_range=pb.SeedRange(first_seed=0, count=count))


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time
    assert span.end_time
    return span.start_time, span.end_time


def test_a_call_is_a_span_of_its_callers_trace_with_its_stages_inside(
    tiny: pb_grpc.ImageGeneratorServiceStub, spans: Spans
) -> None:
    request = pb.GenerateRequest(latents=seeds(3), format=PNG)
    tiny.Generate(request, metadata=[*TRACEPARENT, ("x-request-id", "mine")], timeout=PATIENCE_S)
    found = spans.of_call()
    assert {name: len(named) for name, named in found.items()} == {GENERATE: 1, "queue": 1, "inference": 1, "encode": 1}
    [call], [queue], [inference], [encode] = (found[name] for name in (GENERATE, "queue", "inference", "encode"))
    assert call.parent
    assert call.context
    assert (f"{call.parent.trace_id:032x}", f"{call.parent.span_id:016x}") == (TRACE, PARENT)
    assert {stage.parent and stage.parent.span_id for stage in (queue, inference, encode)} == {call.context.span_id}
    moments = [times(call)[0], *times(queue), *times(inference), *times(encode), times(call)[1]]
    slack_ns = 100_000  # clocks are read one after the other
    assert all(later >= sooner - slack_ns for sooner, later in pairwise(moments))
    assert dict(call.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "progan.v1.ImageGeneratorService",
        "rpc.method": "Generate",
        "rpc.response.status_code": "OK",
        "progan.model": "tiny",
        "progan.version": 1,
        "progan.images": 3,
        "progan.format": "PNG",
        "progan.request_id": "mine",
    }
    assert dict(inference.attributes or {}) == {"progan.images": 3, "progan.batch_rows": 3}


def test_every_part_of_a_stream_has_its_stages(tiny: pb_grpc.ImageGeneratorServiceStub, spans: Spans) -> None:
    request = pb.StreamGenerateRequest(latents=seeds(40))
    assert len(list(tiny.StreamGenerate(request, timeout=PATIENCE_S))) == 3
    found = spans.of_call()
    parts = [dict(span.attributes or {})["progan.images"] for span in found["inference"]]
    assert (parts, len(found["queue"]), "encode" in found) == ([16, 16, 8], 3, False)


def test_only_a_fault_of_ours_is_an_error(
    tiny: pb_grpc.ImageGeneratorServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, model: object) -> pb.Model:
        raise RuntimeError("a secret")

    def status(call: Callable[..., Any], request: object) -> str:
        spans = Spans()
        with traces.recording(spans.provider):
            with pytest.raises(grpc.RpcError):
                call(request, timeout=PATIENCE_S)
            [[span]] = spans.of_call().values()
        assert "secret" not in span.to_json()
        return span.status.status_code.name

    assert status(tiny.Generate, pb.GenerateRequest()) == "UNSET"
    monkeypatch.setattr(ImageGeneratorServicer, "_message", broken)
    assert status(tiny.GetModel, pb.GetModelRequest()) == "ERROR"


def test_the_log_names_the_trace_of_a_call(
    tiny: pb_grpc.ImageGeneratorServiceStub, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="progan_service.requests")
    tiny.ListModels(pb.ListModelsRequest(), metadata=TRACEPARENT, timeout=PATIENCE_S)
    until(lambda: bool(caplog.records))
    assert vars(caplog.records[0])["fields"]["trace_id"] == TRACE


def test_spans_reach_the_collector_that_the_environment_names(
    tiny: pb_grpc.ImageGeneratorServiceStub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="progan_service.requests")
    arrived: list[str] = []

    def export(request: ExportTraceServiceRequest, _: object) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            [service] = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            arrived.extend(f"{service}: {span.name}" for scope in resource.scope_spans for span in scope.spans)
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    collector = grpc.server(ThreadPoolExecutor(1))
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    collector.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    port = collector.add_insecure_port("127.0.0.1:0")
    collector.start()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_SERVICE_NAME": "progan"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with traces.exporting(environment):
        tiny.Generate(pb.GenerateRequest(latents=seeds(1)), timeout=PATIENCE_S)
        until(lambda: bool(caplog.records))  # the span ends after the answer and before this line
    collector.stop(grace=None)
    assert sorted(arrived) == ["progan: inference", f"progan: {GENERATE}", "progan: queue"]


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        COLLECTOR | {"OTEL_SDK_DISABLED": "true"},
        COLLECTOR | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_is_traced(environment: dict[str, str]) -> None:
    with traces.exporting(environment):
        assert traces._tracer is None


def test_a_collector_without_the_extra_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with traces.exporting({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9"}):
        assert traces._tracer is None
    [record] = caplog.records
    assert record.getMessage() == (
        "the environment names a collector of traces; install progan-service[otel] to send them"
    )


def test_a_server_that_does_not_trace_needs_no_opentelemetry() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import progan_service.serving.server"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)
