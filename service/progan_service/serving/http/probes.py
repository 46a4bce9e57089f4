"""What the HTTP port answers: /metrics for Prometheus, /livez and /readyz for probes."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Pages = dict[str, Callable[[], Reply]]  # by path


def probes(registry: CollectorRegistry, ready: Callable[[], bool]) -> Pages:
    """Return the pages. They are called in the HTTP port's thread, so `ready` must not need the event loop."""
    return {
        "/metrics": lambda: Reply(200, generate_latest(registry), CONTENT_TYPE_LATEST),
        "/livez": lambda: Reply(200, b"alive\n"),
        "/readyz": lambda: Reply(200, b"ready\n") if ready() else Reply(503, b"not ready\n"),
    }
