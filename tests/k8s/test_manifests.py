"""The manifests as files: each is listed, holds one resource, and names what exists."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import ASIDE, K8S, ROOT, WRITTEN, Resource, named, pods, read, render
from pods import NoKubectlError


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


def test_a_missing_kubectl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoKubectlError, match="^kubectl .* is needed"):
        render("overlays/cpu")
