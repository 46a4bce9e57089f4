"""Spans of OpenTelemetry: one for a call, and in it one for each queue, inference and encode stage of its images.

Nothing is imported and nothing is done until a block of `exporting` or `recording` has begun. Calls use it in the event
loop; the exporter sends finished spans from a thread of its own.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from progan_service.serving.watching.calls import Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SERVER_FAULTS = ("DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE")  # what OpenTelemetry calls an error of a server
_LAST_SPANS_S = 2  # how long the last spans may take to be sent at the end

_tracer: "Tracer | None" = None


@contextmanager
def exporting(environment: Mapping[str, str]) -> Iterator[None]:
    """Within the block send spans, by OTLP over gRPC, to the collector that the standard variables name, if any."""
    if not _wanted(environment):
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("the environment names a collector of traces; install progan-service[otel] to send them")
        yield
        return
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        with recording(provider):
            yield
    finally:
        last = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(_LAST_SPANS_S)


@contextmanager
def recording(provider: "TracerProvider") -> Iterator[None]:
    """Within the block record calls as spans of this provider."""
    global _tracer
    _tracer = provider.get_tracer("progan")
    try:
        yield
    finally:
        _tracer = None


def begin(call: Call, headers: Iterable[tuple[str, str | bytes]]) -> None:
    """Begin the span of a call, within the trace that its headers name (W3C traceparent)."""
    if _tracer is None:
        return
    from opentelemetry import propagate, trace

    parent = propagate.extract({key: value for key, value in headers if isinstance(value, str)})
    about = {"rpc.system": call.protocol, "rpc.service": call.service, "rpc.method": call.method}
    name = f"{call.service}/{call.method}" if call.service else call.method
    call.span = _tracer.start_span(name, parent, trace.SpanKind.SERVER, about)
    call.trace_id = f"{call.span.get_span_context().trace_id:032x}"


def stage(call: Call, name: str, began: float, ended: float, **attributes: int | str) -> None:
    """Record a stage of a call that is over; times are in seconds of time.monotonic()."""
    if _tracer is None or call.span is None or not call.span.is_recording():
        return
    from opentelemetry import trace

    about = {f"progan.{key}": value for key, value in attributes.items()}
    within = trace.set_span_in_context(call.span)
    _tracer.start_span(name, within, attributes=about, start_time=_epoch_ns(began)).end(_epoch_ns(ended))


def end(call: Call) -> None:
    """End the span of a call."""
    if call.span is None:
        return
    from opentelemetry import trace

    call.span.set_attribute("rpc.response.status_code", call.code)
    for name in ("model", "version", "images", "format", "caller", "request_id", "reason", "incident"):
        if value := getattr(call, name):
            call.span.set_attribute(f"progan.{name}", value)
    if call.code in _SERVER_FAULTS:
        call.span.set_status(trace.StatusCode.ERROR, call.error)
    call.span.end()


def _wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _ENDPOINTS)


def _epoch_ns(at: float) -> int:
    return time.time_ns() - int((time.monotonic() - at) * 1e9)
