"""docs/metrics.md has every metric, with its labels."""

import re
from pathlib import Path

from progan_service.serving.watching.metrics import Metrics

TABLES = Path(__file__).parents[4] / "docs" / "metrics.md"


def test_the_tables_have_every_metric_with_its_labels() -> None:
    metrics = Metrics()
    metrics.follow_certificate(lambda: 0.0)
    collectors = {
        name: labels for collector in metrics.registry._collector_to_names for name, labels in named(collector)
    }
    rows = re.findall(r"^\| `(progan_\w+)` \| (.*?) \|", TABLES.read_text(), re.MULTILINE)
    documented = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert documented == collectors


def named(collector: object) -> list[tuple[str, tuple[str, ...]]]:
    """The name of a metric as queries need it, and its labels; nothing for what is not ours."""
    name, labels = getattr(collector, "_name", ""), getattr(collector, "_labelnames", ())
    total = "_total" if getattr(collector, "_type", "") == "counter" else ""
    return [(f"{name}{total}", tuple(labels))] if name.startswith("progan_") else []
