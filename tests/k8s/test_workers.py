"""Training on two machines: the rendered pods, played by processes of this one."""

import json
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from pods import ROOT, Machine, Resource, container_of, pod_of, render

from progan_service.data.making.demo import build_demo
from progan_service.training.presets import load_preset

pytestmark = pytest.mark.check

# Two steps at 4x4, one that fades 8x8 in, one at 8x8.
TINY = [
    *("--resolution", "8", "--fmap-base", "32", "--fmap-max", "8", "--batch-sizes", "8"),
    *("--stable-kimg", "0.016", "--fade-kimg", "0.008", "--total-kimg", "0.032"),
]
PATIENCE_S = 500


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    return render(ROOT / "k8s/overlays/workers-train")


@pytest.fixture(scope="module")
def pod(resources: list[Resource]) -> Resource:
    return pod_of(resources, "Job", "progan-train")


def test_each_worker_knows_all_and_its_own_number(resources: list[Resource], pod: Resource) -> None:
    [job] = [one for one in resources if one["kind"] == "Job"]
    [service] = [one for one in resources if one["kind"] == "Service"]
    machine = Machine({})
    clusters = [json.loads(machine.environment(pod, "train", index=index)["TF_CONFIG"]) for index in (0, 1)]
    assert [cluster["task"] for cluster in clusters] == [{"type": "worker", "index": index} for index in (0, 1)]
    assert clusters[0]["cluster"] == clusters[1]["cluster"] == {
        "worker": ["progan-train-0.progan-train:2222", "progan-train-1.progan-train:2222"]
    }  # fmt: skip
    assert container_of(pod, "export")["env"] == container_of(pod, "train")["env"]
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 2, 2)
    assert job["metadata"]["name"] == pod["spec"]["subdomain"] == service["metadata"]["name"] == "progan-train"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_workers_reach_each_other_and_nobody_else(resources: list[Resource], pod: Resource) -> None:
    [policy] = [one["spec"] for one in resources if one["kind"] == "NetworkPolicy"]
    workers = policy["podSelector"]
    assert workers["matchLabels"].items() <= pod["metadata"]["labels"].items()
    to_workers, to_dns = policy["egress"]
    assert policy["ingress"] == [{"from": [{"podSelector": workers}]}]
    assert to_workers == {"to": [{"podSelector": workers}]}
    assert [rule["port"] for rule in to_dns["ports"]] == [53, 53]


def test_workers_share_their_claims(resources: list[Resource]) -> None:
    [runs] = [one for one in resources if one["kind"] == "PersistentVolumeClaim"]
    assert (runs["metadata"]["name"], runs["spec"]["accessModes"]) == ("progan-runs", ["ReadWriteMany"])


def test_the_batches_of_the_preset_can_be_divided_among_two_workers(pod: Resource) -> None:
    args = container_of(pod, "train")["args"]
    training = load_preset(args[args.index("--preset") + 1]).training
    assert all(size % (2 * 4) == 0 for size in training.batch_sizes.values())  # groups of 4, as minibatch_stddev has it


def test_two_pods_train_one_run_and_export_it_once(pod: Resource, tmp_path: Path) -> None:
    build_demo(tmp_path / "data/faces", 8, 48, seed=0, progress=lambda *_: None)
    machine = Machine(
        {f"progan-{name}": tmp_path / name for name in ("data", "runs", "models")},
        dict(zip(("progan-train-0.progan-train:2222", "progan-train-1.progan-train:2222"), addresses(), strict=True)),
    )

    def run(container: str, *options: str, indexes: tuple[int, ...] = (0, 1)) -> list[list[str]]:
        """Run the container of these pods at the same time, each to a good end; return what each printed."""
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    subprocess.Popen(
                        [*machine.command(pod, container), *options],
                        env=machine.environment(pod, container, index=index),
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
                for index in indexes
            ]
            for process in processes:
                stack.callback(process.kill)
            printed = [process.communicate(timeout=PATIENCE_S)[0].splitlines() for process in processes]
            assert [process.returncode for process in processes] == [0] * len(indexes), printed
        return printed

    done = f"done: progan export {tmp_path}/runs/faces --store DIR --name NAME makes it servable"
    for printed in run("train", *TINY):
        assert (printed[0].split(",")[0], printed[-1]) == ("waiting for 2 workers", done)

    # A pod that failed in its export begins anew, when the other one is gone for good.
    [again] = run("train", *TINY, indexes=(0,))
    assert again == ["nothing to do: all images were shown", done]

    first, second = run("export")
    assert first[0].startswith(f"{tmp_path}/models/faces/1: faces version 1, 8x8, from ")
    assert second == ["nothing to do: the first worker exports"]
    assert [version.name for version in (tmp_path / "models/faces").iterdir() if version.name.isdecimal()] == ["1"]


def addresses() -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
