"""What is played of a cluster, where a wrong part would make a rehearsal that shows nothing."""

from pathlib import Path

import pytest
import yaml
from jobs import action_of
from names import reply
from pods import ROOT, Machine, container_of

JOB = yaml.safe_load((ROOT / "k8s/train/job.yaml").read_text())
POD = JOB["spec"]["template"]

QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06progan\x00"
A, AAAA = b"\x00\x01\x00\x01", b"\x00\x1c\x00\x01"


@pytest.mark.parametrize(
    ("container", "code", "action"),
    [
        ("train", 75, "Ignore"),
        ("train", 78, "FailJob"),
        ("train", 2, "FailJob"),
        ("train", 1, "Count"),
        ("train", 137, "Count"),
        ("export", 78, "Count"),
    ],
)
def test_a_job_goes_on_or_ends_by_its_rules(container: str, code: int, action: str) -> None:
    assert action_of(JOB, container, code) == action


def test_a_container_gets_its_command_with_the_paths_of_this_machine() -> None:
    machine = Machine({f"progan-{name}": Path("/here") / name for name in ("data", "runs", "models")})
    _, *arguments = machine.command(POD, "export")
    assert arguments == ["export", "/here/runs/faces", "--store", "/here/models", "--name", "faces"]


def test_a_variable_knows_those_before_it() -> None:
    pod = {"spec": {"containers": [{"name": "a", "env": [
        {"name": "LATER", "value": "$(INDEX) $(UNKNOWN)"},
        {"name": "INDEX", "valueFrom": {
            "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}},
        {"name": "NAME", "value": "worker-$(INDEX)"},
    ]}]}}  # fmt: skip
    found = Machine({}).environment(pod, "a", index=3)
    assert container_of(pod, "a")["name"] == "a"
    assert (found["LATER"], found["NAME"]) == ("$(INDEX) $(UNKNOWN)", "worker-3")


def test_the_name_server_names_all_that_are_ready() -> None:
    told = reply(QUESTION + A, ["127.0.0.11", "127.0.0.12"])
    assert told[:12] == b"\x12\x34\x85\x80\x00\x01\x00\x02\x00\x00\x00\x00"
    answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04"
    assert told[12:] == b"\x06progan\x00" + A + answer + bytes([127, 0, 0, 11]) + answer + bytes([127, 0, 0, 12])


def test_the_name_server_knows_no_ipv6() -> None:
    assert reply(QUESTION + AAAA, ["127.0.0.11"])[6:8] == b"\x00\x00"
