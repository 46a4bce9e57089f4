"""What the HTTP port answers by itself, without the event loop of the calls: metrics and health."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

JSON = "application/json"


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Pages = dict[str, Callable[[str], Reply]]  # by path; they get the value of the header Accept


def probes(registry: CollectorRegistry, ready: Callable[[], bool]) -> Pages:
    """Return the pages. They are called in the HTTP port's thread, so `ready` must not need the event loop.

    /metrics is for Prometheus: as OpenMetrics, which has exemplars, if it asks for that, else as plain text. /livez and
    /readyz are for probes. The other three are the health of other servers, as their clients ask for it: KServe's read
    the JSON, Triton's the status.
    """
    return {
        "/metrics": lambda accept: _metrics(registry, accept),
        "/livez": lambda _: Reply(200, b"alive\n"),
        "/readyz": lambda _: Reply(200, b"ready\n") if ready() else Reply(503, b"not ready\n"),
        "/": lambda _: as_json(200, {"status": "alive"}, {"Vary": "Accept"}),
        "/v2/health/live": lambda _: as_json(200, {"live": True}),
        "/v2/health/ready": lambda _: as_json(200 if ready() else 503, {"ready": ready()}),
    }


def _metrics(registry: CollectorRegistry, accept: str) -> Reply:
    encode, content_type = choose_encoder(accept)
    return Reply(200, encode(registry), content_type, {"Vary": "Accept"})


def as_json(status: int, content: object, headers: Mapping[str, str] = {}) -> Reply:
    """Return a reply in JSON. KServe's client wants exactly this content type."""
    return Reply(status, json.dumps(content).encode(), JSON, headers)
