"""What the Job controller of Kubernetes does with the pods of a Job, by the rules of its manifest."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pods import Machine, Resource, pod_of

Action = Literal["Ignore", "FailJob", "Count"]


def action_of(job: Resource, container: str, code: int) -> Action:
    """Return what a pod whose container ended with this code means for its Job. The first rule that fits decides."""
    for rule in job["spec"].get("podFailurePolicy", {}).get("rules", []):
        if "onExitCodes" in rule:
            codes = rule["onExitCodes"]
            if codes.get("containerName", container) == container and code in codes["values"]:
                action: Action = rule["action"]
                return action
    return "Count"


class JobFailedError(Exception):
    """A Job that ends without success."""


def run_job(
    resources: list[Resource],
    name: str,
    machine: Machine,
    log: Path,
    *,
    options: Mapping[str, Sequence[str]],
    started: Callable[["subprocess.Popen[bytes]", int], None] = lambda process, pod: None,
) -> list[str]:
    """Run a Job to its end, one pod after the other; return how each pod ended.

    options   added to the command lines, by container
    started   called with the first container of each pod, and the number of the pod
    """
    [job] = [one for one in resources if (one["kind"], one["metadata"]["name"]) == ("Job", name)]
    pod, ended, crashes = pod_of(resources, "Job", name), list[str](), 0
    while crashes <= job["spec"]["backoffLimit"]:
        failed = _run_pod(pod, machine, log, options, lambda process: started(process, len(ended)))
        if failed is None:
            return [*ended, "done"]
        container, code = failed
        action = action_of(job, container, code)
        ended.append(f"{container} ended with {code}: {action}")
        if action == "FailJob":
            break
        crashes += action == "Count"
    raise JobFailedError(f"{name}: {', '.join(ended)}; see {log}")


def _run_pod(
    pod: Resource,
    machine: Machine,
    log: Path,
    options: Mapping[str, Sequence[str]],
    started: Callable[["subprocess.Popen[bytes]"], None],
) -> tuple[str, int] | None:
    """Run init containers and containers in turn; return the first that failed, with its exit code."""
    for number, one in enumerate([*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]):
        command = [*machine.command(pod, one["name"]), *options.get(one["name"], ())]
        environment = machine.environment(pod, one["name"])
        with log.open("ab") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
            if number == 0:
                started(process)
        if process.returncode:
            return one["name"], process.returncode
    return None
