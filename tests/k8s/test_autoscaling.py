"""As many servers as the load needs: both autoscalers ask and decide the same."""

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import AUTOSCALERS, K8S, Resource, config_of, containers, of_kind, render, shown_overlays, written

from progan_service.serving.config import ServerConfig


def scaled_object() -> Resource:
    spec: Resource = yaml.safe_load((K8S / "components/autoscaling/scaled-object.yaml").read_text())["spec"]
    return spec


def test_both_autoscalers_ask_the_same_and_decide_the_same() -> None:
    keda = scaled_object()
    hpa = yaml.safe_load((K8S / "components/autoscaling-hpa/horizontal-pod-autoscaler.yaml").read_text())["spec"]
    [rule] = yaml.safe_load((K8S / "components/autoscaling-hpa/adapter-values.yaml").read_text())["rules"]["external"]
    [trigger], [metric] = keda["triggers"], hpa["metrics"]
    assert trigger["metadata"]["query"] == rule["metricsQuery"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "0.7")
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "700m"}
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"]) == (2, 10)
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    assert keda["scaleTargetRef"]["name"] == hpa["scaleTargetRef"]["name"] == "progan"


def test_no_data_is_no_reason_to_take_servers_away() -> None:
    keda = scaled_object()
    assert keda["triggers"][0]["metadata"]["ignoreNullValues"] == "false"
    assert keda["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert keda["fallback"]["replicas"] >= keda["minReplicaCount"]


def test_the_query_asks_for_series_that_servers_have(server_page: str) -> None:
    query = scaled_object()["triggers"][0]["metadata"]["query"]
    for name in set(re.findall(r"progan_\w+", query)):
        assert f"# TYPE {name} " in server_page


@pytest.fixture
def server_page(run_server: Callable[..., Any], tiny_store: Path) -> str:
    """The metrics of a server that nobody called yet."""
    with (
        run_server(ServerConfig(store=tiny_store, port=0, http_port=0)) as running,
        urllib.request.urlopen(f"http://127.0.0.1:{running.http_port}/metrics") as page,
    ):
        return str(page.read().decode())


def test_the_query_gives_one_series_of_one_installation() -> None:
    query = scaled_object()["triggers"][0]["metadata"]["query"]
    assert query.startswith("sum(")
    assert re.findall(r"progan_\w+(?!\w)", query) == re.findall(r'(progan_\w+){namespace="progan"', query)


@pytest.mark.check
@pytest.mark.parametrize("component", sorted(AUTOSCALERS))
def test_an_apply_leaves_the_number_of_servers_to_the_autoscaler(tmp_path: Path, component: str) -> None:
    _, overlay = shown_overlays()
    resources = render(written(tmp_path, f"{overlay}components: [../components/{component}]\n"))
    [deployment] = of_kind(resources, "Deployment")
    assert "replicas" not in deployment["spec"]
    [container] = containers([deployment])
    config = config_of(container)
    assert config.max_connection_age_s == 60
