"""The manifests: as they are written, or as kubectl renders them."""

import re
import shutil
from pathlib import Path, PurePosixPath

import kubernetes_validate  # type: ignore[import-untyped]
import yaml
from pods import ROOT, Resource
from pods import render as rendered

from progan_service.commands.parser import parser
from progan_service.serving.config import ServerConfig
from progan_service.settings.manual import given_settings
from progan_service.settings.source import make

K8S = ROOT / "k8s"
WRITTEN = ["base", "dataset", "models", "train"]  # folders of complete resources
ASIDE = ["gateway", "kserve"]  # resources of other kinds, for what base has
RENDERED = [*WRITTEN, *sorted(str(path.parent.relative_to(K8S)) for path in K8S.glob("overlays/*/kustomization.yaml"))]
KUBERNETES = "1.36"
AUTOSCALERS = {"autoscaling", "autoscaling-hpa"}  # an overlay has one of these components


def read(folder: str) -> list[Resource]:
    paths = sorted((K8S / folder).glob("*.yaml"))
    return [yaml.safe_load(path.read_text()) for path in paths if path.name != "kustomization.yaml"]


def render(folder: str) -> list[Resource]:
    return rendered(K8S / folder)


def validate(resource: Resource) -> None:
    """Raises for a resource that does not fit its schema, or has a field that the schema lacks."""
    kubernetes_validate.validate(resource, KUBERNETES, strict=True)


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


def config_of(container: Resource) -> ServerConfig:
    """Return the configuration of a container that serves."""
    return make(ServerConfig, given_settings(parser().parse_args(container["args"]), ServerConfig))


def serve_config() -> ServerConfig:
    return config_of(server())


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
