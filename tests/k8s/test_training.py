"""Jobs: a dataset, a training that goes on when it was preempted, and its export."""

import re
from pathlib import Path

import yaml
from manifests import K8S, Resource, mount_of, named

from progan_service import exit_codes
from progan_service.commands.parser import parser


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
