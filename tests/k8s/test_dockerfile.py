"""The image agrees with the code: what it starts, where it listens, who it runs as, what it installs."""

import json
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from progan_service.commands.parser import parser
from progan_service.serving.config import ServerConfig
from progan_service.settings.manual import given_settings
from progan_service.settings.source import make

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (INSTRUCTION, rest of the line) pairs."""
    whole = DOCKERFILE.replace("\\\n", "")
    lines = [line for line in whole.splitlines() if line and not line.startswith("#")]
    pairs = [line.partition(" ") for line in lines]
    return [(name, rest) for name, _, rest in pairs]


def last(name: str) -> str:
    return [rest for found, rest in instructions() if found == name][-1]


def toml(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())


def test_the_image_runs_the_command_of_the_service_and_serves_by_default() -> None:
    [command] = toml("service/pyproject.toml")["project"]["scripts"]
    assert json.loads(last("ENTRYPOINT")) == [command] == ["progan"]
    config = make(ServerConfig, given_settings(parser().parse_args(json.loads(last("CMD"))), ServerConfig))
    assert config.host == "0.0.0.0"
    assert last("EXPOSE") == f"{config.port} {config.http_port}" == "8500 8501"
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_image_runs_as_the_user_that_the_pods_name() -> None:
    pod = yaml.safe_load((ROOT / "k8s/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]
    assert last("USER") == f"{user}:{group}" == "10001:10001"


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_the_image_installs_a_locked_extra_of_the_service(extra: str) -> None:
    assert extra in toml("service/pyproject.toml")["project"]["optional-dependencies"]
    assert "--require-hashes locks/service-${EXTRA}.txt" in DOCKERFILE
    assert (ROOT / f"locks/service-{extra}.txt").is_file()


@pytest.mark.parametrize("package", ["protos", "service"])
def test_uv_builds_our_packages_with_its_own_backend(package: str) -> None:
    """In this range uv takes no backend from the network, so that --offline can hold."""
    [uv] = re.findall(r"uv==([0-9.]+)$", DOCKERFILE, flags=re.MULTILINE)
    [backend] = toml(f"{package}/pyproject.toml")["build-system"]["requires"]
    assert backend.startswith("uv_build")
    assert uv in SpecifierSet(backend.removeprefix("uv_build"))


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    copied = [rest.split()[0] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert copied == ["locks/service-${EXTRA}.txt", "protos", "service"]
    assert ignored == ["*", "!locks/service-*.txt", "!protos", "!service", "**/__pycache__"]


def test_a_mirror_and_an_older_builder_will_do() -> None:
    assert instructions()[0] == ("ARG", "BASE=python:3.11-slim-bookworm")  # no registry host: the builder's default
    assert [rest for name, rest in instructions() if name == "FROM"] == [
        "${BASE} AS dependencies",
        "dependencies AS packages",
        "${BASE} AS serve",
    ]
    assert re.findall("<<|--link|--mount", DOCKERFILE) == []


def test_the_labels_of_the_image_say_what_it_is() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="?([^"\s]+(?: [^"]+)?)"?', last("LABEL")))
    project = toml("service/pyproject.toml")["project"]
    assert (labels["version"], labels["licenses"]) == (project["version"], project["license"])
    assert labels["revision"] == "$REVISION"


@pytest.mark.check
def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    assert hadolint.is_file(), "hadolint is needed to check the Dockerfile: install the development dependencies."
    linted = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")
