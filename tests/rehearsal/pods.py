"""Containers of the manifests as processes of this machine: the same commands, with other paths and names."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

Resource = dict[str, Any]

ROOT = Path(__file__).parents[2]
PROGAN = Path(sys.executable).with_name("progan")  # the entrypoint of the image


class NoKubectlError(Exception):
    """Manifests cannot be rendered."""

    def __init__(self) -> None:
        super().__init__("kubectl 1.27 or newer is needed to render the manifests: install it and put it on the PATH.")


def render(folder: Path) -> list[Resource]:
    """Return the resources of a kustomization. Raises NoKubectlError."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise NoKubectlError
    rendered = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.safe_load_all(rendered.stdout))


def pod_of(resources: list[Resource], kind: str, name: str) -> Resource:
    """Return the pod template of a Deployment or Job."""
    [found] = [one for one in resources if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return dict(found["spec"]["template"])


def container_of(pod: Resource, name: str) -> Resource:
    """Return a container, or an init container, by its name."""
    spec = pod["spec"]
    [found] = [one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == name]
    return dict(found)


@dataclass(frozen=True)
class Machine:
    """Where the volumes of pods are on this machine, and by what address their names are reached.

    volumes   directory of each claim by its name, and of secrets by the names of their volumes
    names     what stands in manifests -> what to use here
    """

    volumes: Mapping[str, Path]
    names: Mapping[str, str] = field(default_factory=dict)

    def command(self, pod: Resource, container: str) -> list[str]:
        """Return the command line of a container, with the paths of its volumes as they are here."""
        found = container_of(pod, container)
        paths = {mount["mountPath"]: self._directory(pod, mount["name"]) for mount in found["volumeMounts"]}
        return [str(PROGAN), *(self._here(_moved(arg, paths)) for arg in found["args"])]

    def environment(self, pod: Resource, container: str, *, index: int = 0) -> dict[str, str]:
        """Return the environment of a container, that of pod number `index` of an Indexed Job."""
        fields = {"metadata.labels['batch.kubernetes.io/job-completion-index']": str(index)}
        given: dict[str, str] = {}
        for one in container_of(pod, container).get("env", []):
            value = one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
            # As Kubernetes does it: a variable knows those that stand before it.
            given[one["name"]] = re.sub(r"\$\((\w+)\)", lambda m: given.get(m[1], m[0]), self._here(value))
        return {**os.environ, **given}

    def _directory(self, pod: Resource, name: str) -> Path | None:
        """Return the directory of a volume; None for one that is empty at the start: /tmp is /tmp."""
        [volume] = [one for one in pod["spec"]["volumes"] if one["name"] == name]
        if "emptyDir" in volume:
            return None
        return self.volumes[volume["persistentVolumeClaim"]["claimName"] if "persistentVolumeClaim" in volume else name]

    def _here(self, text: str) -> str:
        for name, here in self.names.items():
            text = text.replace(name, here)
        return text


def _moved(arg: str, paths: Mapping[str, Path | None]) -> str:
    """Return an argument (PATH or --option=PATH) with the path of its volume."""
    option, _, value = arg.rpartition("=")
    for path, here in paths.items():
        if here and PurePosixPath(value).is_relative_to(path):
            return f"{option}{'=' if option else ''}{here / PurePosixPath(value).relative_to(path)}"
    return arg
