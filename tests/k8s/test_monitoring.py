"""What watches the servers: it selects them, asks for metrics that exist, and calls somebody when it should."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pods import ROOT, Resource, render
from prometheus import rule_groups, tool

from progan_service.serving.watching.metrics import Metrics

K8S = ROOT / "k8s"
MONITORING = K8S / "components" / "monitoring"
README = (K8S / "README.md").read_text()
OVERLAY = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: progan
resources: [../overlays/cpu]
components: [../components/monitoring{more}]
"""


def component(file: str) -> Any:
    return yaml.safe_load((MONITORING / file).read_text())


def alerts() -> dict[str, Any]:
    return {rule["alert"]: rule for group in rule_groups()["groups"] for rule in group["rules"]}


def panels() -> list[Any]:
    return [
        panel for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"] if panel["type"] != "row"
    ]


def queries() -> list[str]:
    """Of the dashboard, the alerts and the questions."""
    drawn = [target["expr"] for panel in panels() for target in panel["targets"]]
    asked = re.findall(r"```promql\n(.*?)```", README, re.DOTALL)
    return [*drawn, *(alert["expr"] for alert in alerts().values()), *asked]


def series() -> dict[str, set[str]]:
    """The labels of all series that a server may have, by their names, and of those that Prometheus adds."""
    metrics = Metrics()
    metrics.follow_certificate(lambda: 0.0)
    found = {"up": set[str]()}
    for collector in metrics.registry._collector_to_names:
        name, labels = getattr(collector, "_name", ""), set(getattr(collector, "_labelnames", ()))
        kind = getattr(collector, "_type", "")
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(kind, [""])
        found |= {f"{name}{ending}": labels | ({"le"} if ending == "_bucket" else set()) for ending in endings}
    process = {"process_resident_memory_bytes": set[str](), "process_cpu_seconds_total": set[str]()}
    return {name: labels | {"namespace", "pod", "container"} for name, labels in (found | process).items()}


def test_every_query_asks_for_series_that_servers_have_by_labels_that_these_have() -> None:
    known = series()
    for query in queries():
        names = set(re.findall(r"\b(?:progan|process)_\w+", query))
        assert names <= known.keys(), query
        for name, selector in re.findall(r"\b((?:progan|process)_\w+)\{(.*?)\}", query):
            assert set(re.findall(r"(\w+)\s*[=!]~?\s*\"", selector)) <= known[name], query


def test_the_dashboard_asks_the_chosen_namespace_and_explains_each_panel() -> None:
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        for target in panel["targets"]:
            selectors = re.findall(r"\b(?:progan|process)_\w+(\{.*?\})?", re.sub(r"progan_ready$", "", target["expr"]))
            assert all('namespace=~"$namespace"' in selector for selector in selectors), target["expr"]


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    assert {alert["labels"]["severity"] for alert in alerts().values()} == {"page", "ticket"}
    assert re.findall(r"^\| (Progan\w+) \|", README, re.MULTILINE) == list(alerts())


def test_prometheus_asks_the_port_of_the_servers_and_is_let_in() -> None:
    monitor = component("pod-monitor.yaml")["spec"]
    pod = yaml.safe_load((K8S / "base/deployment.yaml").read_text())["spec"]["template"]
    labels, [container] = pod["metadata"]["labels"], pod["spec"]["containers"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    [endpoint] = monitor["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert endpoint["path"] == "/metrics"
    policy = component("network-policy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    [rule] = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == [ports[endpoint["port"]]]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.mark.check
def test_grafana_finds_the_dashboard_and_prometheus_asks_as_the_servers_answer(tmp_path: Path) -> None:
    for more, scheme in (("", None), (", ../components/tls", "https")):
        mine = Path(shutil.copytree(K8S, tmp_path / (scheme or "http"))) / "mine"
        mine.mkdir()
        (mine / "kustomization.yaml").write_text(OVERLAY.format(more=more))
        resources: list[Resource] = render(mine)
        [board] = [one for one in resources if one["kind"] == "ConfigMap"]
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(board["data"]["progan.json"])["title"] == "ProGAN"
        [monitor] = [one for one in resources if one["kind"] == "PodMonitor"]
        assert monitor["metadata"]["namespace"] == "progan"
        assert monitor["spec"]["podMetricsEndpoints"][0].get("scheme") == scheme


@pytest.mark.check
def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    cases = Path(__file__).parent / "alerts_test.yml"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rule_groups()))
    (tmp_path / cases.name).write_text(cases.read_text())
    for command in (["check", "rules", "rules.yml"], ["test", "rules", cases.name]):
        ran = subprocess.run([tool("promtool"), *command], cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    tried = [case for test in yaml.safe_load(cases.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in tried if case["exp_alerts"]} == alerts().keys()
    assert {case["alertname"] for case in tried if not case["exp_alerts"]} == alerts().keys()
