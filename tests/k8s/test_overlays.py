"""What overlays and the README's patches change: a canary, a gateway, KServe, GPUs, an image of models."""

import re
from pathlib import Path

import pytest
import yaml
from manifests import (
    K8S,
    config_of,
    containers,
    containers_of,
    mount_of,
    named,
    of_kind,
    pods,
    render,
    serve_config,
    server,
    shown_overlays,
    validate,
    written,
)


@pytest.mark.check
def test_the_canary_is_a_deployment_of_its_own_on_the_same_store() -> None:
    resources = render("overlays/canary")
    assert sorted(one["kind"] for one in resources) == ["Deployment", "NetworkPolicy", "Service"]
    [deployment], [service] = of_kind(resources, "Deployment"), of_kind(resources, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert not named("base", "Service", "progan")["spec"]["selector"].items() <= labels.items()
    [volume] = [one for one in deployment["spec"]["template"]["spec"]["volumes"] if one["name"] == "models"]
    assert volume["persistentVolumeClaim"]["claimName"] == "progan-models"


@pytest.mark.check
def test_a_route_gives_shares_to_servers_and_canary() -> None:
    resources = render("gateway")
    [route] = of_kind(resources, "GRPCRoute")
    [rule] = route["spec"]["rules"]
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(resources, "Service")}
    pods_of = {
        "progan-gateway": named("base", "Deployment", "progan"),
        "progan-gateway-canary": of_kind(render("overlays/canary"), "Deployment")[0],
    }
    assert [(one["name"], one["weight"]) for one in rule["backendRefs"]] == list(zip(services, (100, 0), strict=True))
    for name, service in services.items():
        assert service["selector"].items() <= pods_of[name]["spec"]["template"]["metadata"]["labels"].items()
        assert service["ports"] == [
            {"name": "grpc", "port": 8500, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"}
        ]


def test_kserve_runs_the_server_as_base_does() -> None:
    runtime = named("kserve", "ServingRuntime", "progan")["spec"]
    model = named("kserve", "InferenceService", "progan")["spec"]["predictor"]["model"]
    [container] = runtime["containers"]
    config = config_of(container)
    assert (container["name"], str(config.store), config.host) == ("kserve-container", "/mnt/models", "0.0.0.0")
    assert container["ports"] == [{"name": "h2c", "containerPort": config.port, "protocol": "TCP"}]
    assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("readiness", "liveness")} == {config.http_port}
    assert runtime["annotations"]["prometheus.kserve.io/port"] == str(config.http_port)
    assert container["resources"] == server()["resources"]
    assert container["securityContext"].items() >= server()["securityContext"].items()
    [known] = runtime["supportedModelFormats"]
    assert (model["runtime"], model["modelFormat"]["name"]) == ("progan", known["name"])
    # The schema of a container holds here, too; no package has that of KServe.
    pod = {"containers": [container | {"image": "progan"}], "volumes": runtime["volumes"]}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "progan"}, "spec": pod})


@pytest.mark.check
def test_models_can_come_as_an_image(tmp_path: Path) -> None:
    _, overlay = shown_overlays()
    overlay = re.sub(r"  - target: {kind: PersistentVolumeClaim.*?\n  - target", "  - target", overlay, flags=re.DOTALL)
    resources = render(written(tmp_path, overlay + "components: [../components/image-volume]\n"))
    [deployment] = of_kind(resources, "Deployment")
    [container] = containers([deployment])
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes[mount_of(container, str(serve_config().store))["name"]]["image"]["pullPolicy"] == "IfNotPresent"
    assert of_kind(resources, "PersistentVolumeClaim") == []


GPU_SHARES = re.findall(
    r"```yaml\n(  - target: {kind: Deployment.*?)```", (K8S / "README.md").read_text(), flags=re.DOTALL
)


@pytest.mark.check
@pytest.mark.parametrize(
    ("patch", "resource"), [*zip(GPU_SHARES, ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"], strict=True)]
)
def test_a_part_of_a_gpu_is_one_patch(tmp_path: Path, patch: str, resource: str) -> None:
    overlay = shown_overlays()[1].replace("../overlays/cpu", "../overlays/gpu").rstrip() + "\n" + patch
    [container] = containers(of_kind(render(written(tmp_path, overlay)), "Deployment"))
    assert container["resources"]["limits"].keys() == {"memory", resource}
    assert container["resources"]["limits"][resource] == 1


TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.check
@pytest.mark.parametrize("folder", ["overlays/gpu", "overlays/gpu-train"])
def test_a_gpu_pod_has_one_gpu_and_the_image_for_it(folder: str) -> None:
    [pod] = pods(render(folder))
    assert pod["spec"]["tolerations"] == TOLERATIONS
    assert [c["resources"]["limits"]["nvidia.com/gpu"] for c in containers_of(pod)] == [1] * len(containers_of(pod))
    assert all(container["image"].endswith("-gpu") for container in containers_of(pod))


@pytest.mark.check
@pytest.mark.parametrize(("overlay", "surge", "unavailable"), [("overlays/cpu", 1, 0), ("overlays/gpu", 0, 1)])
def test_a_new_server_needs_no_spare_gpu(overlay: str, surge: int, unavailable: int) -> None:
    [deployment] = of_kind(render(overlay), "Deployment")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": unavailable}


@pytest.mark.check
def test_the_cpu_pods_know_nothing_of_gpus() -> None:
    for folder in ["dataset", "train", "overlays/cpu"]:
        assert "nvidia" not in yaml.safe_dump(render(folder))


@pytest.mark.check
def test_the_overlay_of_the_readme_changes_what_it_says(tmp_path: Path) -> None:
    _, overlay = shown_overlays()
    resources = render(written(tmp_path, overlay))
    [deployment], [claim] = of_kind(resources, "Deployment"), of_kind(resources, "PersistentVolumeClaim")
    [container] = containers([deployment])
    assert deployment["metadata"]["namespace"] == "progan"
    assert claim["spec"]["storageClassName"] == "your-shared-storage"
    assert container["image"] == "your-registry/progan:0.1.0-cpu"
    assert container["resources"]["requests"]["cpu"] == "8"
