"""What schemas cannot say: the manifests agree with the code and with each other.

`make test` reads the files as they are written; `make check` asks the same of what kubectl renders from each overlay.
"""

import itertools
import json
import re
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from progan_service import exit_codes
from progan_service.commands.parser import parser
from progan_service.serving.config import ServerConfig
from progan_service.settings.manual import given_settings
from progan_service.settings.source import make

Resource = dict[str, Any]

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
WRITTEN = ["base", "dataset", "models", "train"]  # folders of complete resources
ASIDE = ["gateway", "kserve"]  # resources of other kinds, for what base has
RENDERED = [*WRITTEN, *sorted(str(path.parent.relative_to(K8S)) for path in K8S.glob("overlays/*/kustomization.yaml"))]
KUBERNETES = "1.36"


def read(folder: str) -> list[Resource]:
    paths = sorted((K8S / folder).glob("*.yaml"))
    return [yaml.safe_load(path.read_text()) for path in paths if path.name != "kustomization.yaml"]


def render(folder: str) -> list[Resource]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.fail("kubectl 1.27 or newer is needed to render the manifests: install it and put it on the PATH.")
    rendered = subprocess.run([kubectl, "kustomize", str(K8S / folder)], capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.safe_load_all(rendered.stdout))


@pytest.fixture(
    params=[
        *[pytest.param((read, folder), id=f"written-{folder}") for folder in WRITTEN],
        *[pytest.param((render, folder), id=f"rendered-{folder}", marks=pytest.mark.check) for folder in RENDERED],
    ]
)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    source, folder = request.param
    found: list[Resource] = source(folder)
    return found


def of_kind(resources: list[Resource], kind: str) -> list[Resource]:
    return [resource for resource in resources if resource["kind"] == kind]


def named(folder: str, kind: str, name: str) -> Resource:
    [found] = [resource for resource in of_kind(read(folder), kind) if resource["metadata"]["name"] == name]
    return found


def pods(resources: list[Resource]) -> list[Resource]:
    return [resource["spec"]["template"] for resource in resources if resource["kind"] in ("Deployment", "Job")]


def containers_of(pod: Resource) -> list[Resource]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def containers(resources: list[Resource]) -> list[Resource]:
    return [container for pod in pods(resources) for container in containers_of(pod)]


def server() -> Resource:
    [container] = named("base", "Deployment", "progan")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def serve_config() -> ServerConfig:
    return make(ServerConfig, given_settings(parser().parse_args(server()["args"]), ServerConfig))


def shown_overlays() -> list[str]:
    """Of the README: the lines for TLS and tokens, then the overlay to add them to. (Lone patches are indented.)"""
    return re.findall("```yaml\n([a-z].*?)```", (K8S / "README.md").read_text(), flags=re.DOTALL)


def written(folder: Path, overlay: str) -> str:
    """The overlay in a folder `mine` of a copy of the manifests."""
    mine = Path(shutil.copytree(K8S, folder / "k8s")) / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(overlay)
    return str(mine)


def mount_of(container: Resource, path: str) -> Resource:
    """The deepest volume mount that holds `path`."""
    mounts = [m for m in container["volumeMounts"] if PurePosixPath(path).is_relative_to(m["mountPath"])]
    assert mounts, f"{container['name']}: {path} lies on no volume"
    return dict(max(mounts, key=lambda mount: len(mount["mountPath"])))


# -- The files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=lambda path: str(path.relative_to(K8S)))
def test_a_file_holds_one_resource(path: Path) -> None:
    assert len(list(yaml.safe_load_all(path.read_text()))) == 1


@pytest.mark.parametrize("folder", [*WRITTEN, *ASIDE])
def test_a_kustomization_lists_every_file_of_its_folder(folder: str) -> None:
    listed = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())["resources"]
    assert listed == sorted(path.name for path in (K8S / folder).glob("*.yaml") if path.name != "kustomization.yaml")


def test_the_image_is_tagged_with_the_version_of_the_service() -> None:
    version = tomllib.loads((ROOT / "service/pyproject.toml").read_text())["project"]["version"]
    tags = {
        str(path.parent.relative_to(K8S)): image
        for path in K8S.rglob("kustomization.yaml")
        for image in yaml.safe_load(path.read_text()).get("images", [])
    }
    assert tags == {
        "components/gpu": {"name": "progan", "newTag": f"{version}-gpu"},
        "dataset": {"name": "progan", "newTag": f"{version}-cpu"},
        "kserve": {"name": "progan", "newTag": f"{version}-cpu"},
        "models": {"name": "progan", "newTag": f"{version}-cpu"},
        "overlays/canary": {"name": "progan", "newTag": f"{version}-cpu"},
        "overlays/cpu": {"name": "progan", "newTag": f"{version}-cpu"},
        "train": {"name": "progan", "newTag": f"{version}-cpu"},
    }


# -- Every resource ----------------------------------------------------------------------------------------------------


def test_every_resource_fits_its_schema(resources: list[Resource]) -> None:
    for resource in resources:
        if not is_custom(resource):
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def is_custom(resource: Resource) -> bool:
    """Whether the schema of a resource comes with another project: KEDA, Prometheus' operator, Gateway API."""
    group, slash, _ = resource["apiVersion"].partition("/")
    return (bool(slash) and "." in group and not group.endswith(".k8s.io")) or group == "gateway.networking.k8s.io"


CRDS = Path(__file__).parent / "crds"


@pytest.fixture(scope="session")
def problems_of() -> Callable[[list[Resource]], list[str]]:
    """What is wrong with custom resources; "" for each that fits its schema."""
    if shutil.which("npm") is None:
        pytest.fail("npm is needed for the schemas of custom resources: install Node 20 or newer.")
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
    installed = subprocess.run(install, cwd=CRDS, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr[-2000:]

    def problems(resources: list[Resource]) -> list[str]:
        given = json.dumps(resources)
        ran = subprocess.run(["node", CRDS / "validate.mjs"], input=given, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-2000:]
        found: list[str] = json.loads(ran.stdout)
        return found

    return problems


@pytest.mark.check
def test_custom_resources_fit_their_schemas_strictly(problems_of: Callable[[list[Resource]], list[str]]) -> None:
    written = [yaml.safe_load(path.read_text()) for path in sorted(K8S.rglob("*.yaml"))]
    custom = [one for one in written if "apiVersion" in one and is_custom(one) and "kustomize" not in one["apiVersion"]]
    assert {one["kind"] for one in custom} >= {"ScaledObject", "GRPCRoute"}
    custom = [one for one in custom if "kserve" not in one["apiVersion"]]  # no package has those schemas
    assert problems_of(custom) == [""] * len(custom)


@pytest.mark.check
def test_a_misspelt_field_of_a_custom_resource_is_noticed(problems_of: Callable[[list[Resource]], list[str]]) -> None:
    scaled = yaml.safe_load((K8S / "components/autoscaling/scaled-object.yaml").read_text())
    scaled["spec"]["minReplicas"] = scaled["spec"].pop("minReplicaCount")
    assert problems_of([scaled]) == ["/spec/minReplicas is unknown"]


def test_every_quantity_can_be_read() -> None:
    """The schema takes any string: `cpu: 2x` would pass it."""

    def quantities(node: Any) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []:
            if key in ("cpu", "memory", "storage", "sizeLimit", "nvidia.com/gpu"):
                yield str(value)
            else:
                yield from quantities(value)

    found = [q for path in K8S.rglob("*.yaml") for q in quantities(yaml.safe_load(path.read_text()))]
    assert {"2", "2Gi"} <= set(found)
    assert [q for q in found if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(m|[KMGT]i)?", q)] == []


def test_selectors_find_their_pods() -> None:
    def finds(selector: Resource) -> list[str]:
        return [
            pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for folder in WRITTEN
            for pod in pods(read(folder))
            if selector.items() <= pod["metadata"]["labels"].items()
        ]

    everything, the_server = ["server", "dataset", "models", "train"], ["server"]
    assert finds(named("base", "Deployment", "progan")["spec"]["selector"]["matchLabels"]) == the_server
    assert finds(named("base", "Service", "progan")["spec"]["selector"]) == the_server
    assert finds(named("base", "PodDisruptionBudget", "progan")["spec"]["selector"]["matchLabels"]) == the_server
    assert finds(named("base", "NetworkPolicy", "progan-server")["spec"]["podSelector"]["matchLabels"]) == the_server
    downloads = named("models", "NetworkPolicy", "progan-models")["spec"]
    assert finds(downloads["podSelector"]["matchLabels"]) == ["models"]
    deny = named("base", "NetworkPolicy", "progan-default-deny")["spec"]
    assert finds(deny["podSelector"]["matchLabels"]) == everything
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & deny.keys()  # no exceptions


# -- Every pod and container -------------------------------------------------------------------------------------------


def test_every_command_line_is_one_the_command_takes(resources: list[Resource]) -> None:
    for container in containers(resources):
        assert "command" not in container  # the image's entrypoint is `progan`
        parser().parse_args(container["args"])


def test_a_command_line_with_an_unknown_flag_is_noticed() -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([*server()["args"], "--no-such-flag"])


def test_every_pod_runs_without_root_and_without_a_token(resources: list[Resource]) -> None:
    for pod in pods(resources):
        assert pod["spec"]["serviceAccountName"] == "progan"
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    for account in of_kind(resources, "ServiceAccount"):
        assert account["metadata"]["name"] == "progan"
        assert account["automountServiceAccountToken"] is False


def test_every_container_is_locked_down(resources: list[Resource]) -> None:
    for container in containers(resources):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert mount_of(container, "/tmp")["name"] == "tmp"


def test_every_container_asks_for_cpu_and_memory_and_is_limited_in_memory_alone(resources: list[Resource]) -> None:
    for container in containers(resources):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests.keys() == {"cpu", "memory"}
        assert requests["memory"] == limits["memory"]
        assert "cpu" not in limits


def test_every_mount_has_a_volume_and_every_volume_a_mount(resources: list[Resource]) -> None:
    for pod in pods(resources):
        mounted = {mount["name"] for container in containers_of(pod) for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_every_claim_exists(resources: list[Resource]) -> None:
    written = [resource for folder in WRITTEN for resource in read(folder)]
    existing = {claim["metadata"]["name"] for claim in of_kind(written, "PersistentVolumeClaim")}
    assert existing == {"progan-data", "progan-models", "progan-runs"}
    volumes = [volume for pod in pods(resources) for volume in pod["spec"]["volumes"]]
    assert {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v} <= existing


# -- The servers -------------------------------------------------------------------------------------------------------


def test_the_server_listens_where_everybody_looks() -> None:
    config = serve_config()
    assert config.host == "0.0.0.0"  # the default, 127.0.0.1, is out of reach of probes and clients
    assert (config.port, config.http_port) == (8500, 8501)
    assert server()["ports"] == [
        {"name": "grpc", "containerPort": config.port},
        {"name": "http", "containerPort": config.http_port},
    ]
    service = named("base", "Service", "progan")["spec"]
    assert service["clusterIP"] == "None"  # headless: clients balance over the pods themselves
    assert service["ports"] == [
        {"name": "grpc", "port": config.port, "targetPort": "grpc"},
        {"name": "http", "port": config.http_port, "targetPort": "http"},
    ]
    [ingress] = named("base", "NetworkPolicy", "progan-server")["spec"]["ingress"]
    assert [rule["port"] for rule in ingress["ports"]] == [config.port, config.http_port]


def test_probes_ask_the_port_that_answers_whatever_happens_to_the_other() -> None:
    probes = {probe: server()[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert probes["startup"] == probes["liveness"] == {"path": "/livez", "port": "http"}
    assert probes["readiness"] == {"path": "/readyz", "port": "http"}


def test_probes_use_https_where_the_server_has_tls() -> None:
    component = yaml.safe_load((K8S / "components/tls/kustomization.yaml").read_text())
    added = {patch["path"]: patch["value"] for patch in yaml.safe_load(component["patches"][1]["patch"])}
    for probe in ("startup", "liveness", "readiness"):
        assert added[f"/spec/template/spec/containers/0/{probe}Probe/httpGet/scheme"] == "HTTPS"


def test_a_slow_start_has_five_minutes_and_a_slow_answer_three_seconds() -> None:
    startup = server()["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 300
    assert [server()[f"{probe}Probe"]["timeoutSeconds"] for probe in ("startup", "liveness", "readiness")] == [3, 3, 3]


def test_no_service_of_the_cluster_sets_a_setting_of_the_server() -> None:
    """Kubernetes would tell pods of a Service `progan` with PROGAN_PORT=tcp://..., which is the variable of --port."""
    assert named("base", "Deployment", "progan")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_server_is_not_killed_while_it_drains() -> None:
    config = serve_config()
    pod = named("base", "Deployment", "progan")["spec"]["template"]["spec"]
    assert (config.lame_duck_s, config.drain_s) == (5, 20)
    assert pod["terminationGracePeriodSeconds"] > config.lame_duck_s + config.drain_s


def test_servers_read_the_store_that_the_export_writes() -> None:
    train = named("train", "Job", "progan-train")["spec"]["template"]["spec"]
    serve = named("base", "Deployment", "progan")["spec"]["template"]["spec"]
    [export] = train["containers"]
    published = mount_of(export, str(parser().parse_args(export["args"]).store))
    loaded = mount_of(server(), str(serve_config().store))

    def claim(pod: Resource, mount: Resource) -> str:
        [volume] = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        return str(volume["persistentVolumeClaim"]["claimName"])

    assert claim(train, published) == claim(serve, loaded) == "progan-models"
    assert "readOnly" not in published
    assert loaded["readOnly"] is True
    assert named("base", "PersistentVolumeClaim", "progan-models")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_client_that_asks_dns_every_30_s_knows_a_new_server_before_an_old_one_goes() -> None:
    assert named("base", "Deployment", "progan")["spec"]["minReadySeconds"] == 30


def test_servers_are_on_different_machines_and_in_different_zones() -> None:
    deployment = named("base", "Deployment", "progan")["spec"]
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert [one["labelSelector"] for one in spread] == [deployment["selector"]] * 2
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}


# -- A second image, a gateway, KServe ---------------------------------------------------------------------------------


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
    config = make(ServerConfig, given_settings(parser().parse_args(container["args"]), ServerConfig))
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
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "progan"}, "spec": pod}, KUBERNETES, strict=True
    )


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


# -- Training ----------------------------------------------------------------------------------------------------------


def test_the_commands_shown_for_the_model_store_are_commands() -> None:
    shown = re.findall(r"^#   (\[.*?\])", (K8S / "models" / "job.yaml").read_text(), re.MULTILINE)
    assert [parser().parse_args(yaml.safe_load(args)).store for args in shown] == [Path("/models")] * 6


def test_training_reads_the_dataset_and_exports_what_it_trained() -> None:
    [dataset] = named("dataset", "Job", "progan-dataset")["spec"]["template"]["spec"]["containers"]
    pod = named("train", "Job", "progan-train")["spec"]["template"]["spec"]
    [train], [export] = pod["initContainers"], pod["containers"]
    train_args, export_args = parser().parse_args(train["args"]), parser().parse_args(export["args"])

    assert parser().parse_args(dataset["args"]).out == train_args.data == Path("/data/faces")
    assert "readOnly" not in mount_of(dataset, "/data/faces")
    assert mount_of(train, "/data/faces") == {"name": "data", "mountPath": "/data", "readOnly": True}

    assert Path(export_args.source) == train_args.run_directory == Path("/runs/faces")
    assert mount_of(train, "/runs/faces") == {"name": "runs", "mountPath": "/runs"}
    assert mount_of(export, "/runs/faces") == {"name": "runs", "mountPath": "/runs", "readOnly": True}


def test_a_preempted_run_goes_on_and_a_hopeless_one_ends() -> None:
    job = named("train", "Job", "progan-train")["spec"]

    def train_ends_with(*codes: int) -> Resource:
        return {"containerName": "train", "operator": "In", "values": list(codes)}

    assert job["template"]["spec"]["initContainers"][0]["name"] == "train"
    assert job["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": train_ends_with(exit_codes.PREEMPTED)},
        {"action": "FailJob", "onExitCodes": train_ends_with(exit_codes.USAGE, exit_codes.BAD_CONFIG)},
    ]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # with any other the rules are not allowed
    assert job["podReplacementPolicy"] == "Failed"
    assert named("train", "PersistentVolumeClaim", "progan-runs")["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] == 120


# -- What the GPU overlays change --------------------------------------------------------------------------------------

TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


COMPONENTS = {path.name for path in (K8S / "components").iterdir()}
OF_TRAINING = {"gpu", "priority", "workers"}
ONE_OF = {"autoscaling", "autoscaling-hpa"}


def combinations() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every set of components, on what they are for."""
    for resource, fitting in (("base", COMPONENTS - {"workers"}), ("train", OF_TRAINING)):
        for count in range(1, len(fitting) + 1):
            for components in itertools.combinations(sorted(fitting), count):
                if not set(components) >= ONE_OF:
                    yield resource, components


@pytest.mark.check
def test_every_combination_of_components_fits_its_schemas(tmp_path: Path) -> None:
    for resource, components in combinations():
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"../{resource}"],
            "components": [f"../components/{component}" for component in components],
        }
        folder = tmp_path / "-".join((resource, *components))
        folder.mkdir()
        test_every_resource_fits_its_schema(render(written(folder, yaml.safe_dump(overlay))))


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


# -- As many servers as the load needs ---------------------------------------------------------------------------------


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
@pytest.mark.parametrize("component", sorted(ONE_OF))
def test_an_apply_leaves_the_number_of_servers_to_the_autoscaler(tmp_path: Path, component: str) -> None:
    _, overlay = shown_overlays()
    resources = render(written(tmp_path, f"{overlay}components: [../components/{component}]\n"))
    [deployment] = of_kind(resources, "Deployment")
    assert "replicas" not in deployment["spec"]
    [container] = containers([deployment])
    config = make(ServerConfig, given_settings(parser().parse_args(container["args"]), ServerConfig))
    assert config.max_connection_age_s == 60


# -- What keeps strangers out ------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> list[Resource]:
    """The overlay of the README with what it says of TLS and tokens."""
    components, overlay = shown_overlays()
    return render(written(tmp_path, overlay + components))


@pytest.mark.check
def test_servers_with_tls_and_tokens_fit_the_schema_and_read_what_is_mounted(guarded: list[Resource]) -> None:
    [deployment] = of_kind(guarded, "Deployment")
    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
    [container] = containers([deployment])
    args = parser().parse_args(container["args"])
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    for paths, secret in (((args.tls_cert, args.tls_key), "progan-tls"), ((args.tokens,), "progan-tokens")):
        for path in paths:
            mount = mount_of(container, str(path))
            assert mount["readOnly"] is True
            assert "subPath" not in mount  # such a file would never be renewed
            assert volumes[mount["name"]]["secret"] == {"secretName": secret, "defaultMode": 0o440}
    assert [path.name for path in (args.tls_cert, args.tls_key, args.tokens)] == ["tls.crt", "tls.key", "tokens"]
    assert args.host == "0.0.0.0"


@pytest.mark.check
def test_clients_certificates_are_asked_for_as_the_readme_says(tmp_path: Path) -> None:
    components, overlay = shown_overlays()
    [patch] = re.findall(r"`({op: add, .*?--client-ca=.*?})`", (K8S / "README.md").read_text())
    resources = render(written(tmp_path, overlay.rstrip() + f"\n      - {patch}\n" + components))
    [container] = containers(of_kind(resources, "Deployment"))
    client_ca = parser().parse_args(container["args"]).client_ca
    assert mount_of(container, str(client_ca))["name"] == "tls"


def test_a_missing_kubectl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match="^kubectl .* is needed"):
        render("overlays/cpu")
