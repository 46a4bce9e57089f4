"""Every resource fits its schema, in every combination of components."""

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from manifests import (
    AUTOSCALERS,
    K8S,
    Resource,
    render,
    validate,
    written,
)


def validate_all(resources: list[Resource]) -> None:
    for resource in resources:
        if not is_custom(resource):
            validate(resource)


def test_every_resource_fits_its_schema(resources: list[Resource]) -> None:
    validate_all(resources)


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


COMPONENTS = {path.name for path in (K8S / "components").iterdir()}
OF_TRAINING = {"gpu", "priority", "workers"}


def combinations() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every set of components, on what they are for."""
    for resource, fitting in (("base", COMPONENTS - {"workers"}), ("train", OF_TRAINING)):
        for count in range(1, len(fitting) + 1):
            for components in itertools.combinations(sorted(fitting), count):
                if not set(components) >= AUTOSCALERS:
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
        validate_all(render(written(folder, yaml.safe_dump(overlay))))
