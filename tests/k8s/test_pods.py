"""Every pod and container: command line, rights, resources and volumes."""

import pytest
from manifests import WRITTEN, Resource, containers, containers_of, mount_of, of_kind, pods, read, server

from progan_service.commands.parser import parser


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
