"""`make rehearse`: the life of a deployment, from the rendered manifests, on this machine. Takes some minutes.

Containers are processes at addresses of loopback, claims are directories, a small name server is the headless Service.
Clients keep calling while servers come, go, die and get new models; each image is checked. Prints a table; exits with 1
if a call failed or an image was missing, doubled or another one than before.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from callers import Account, Callers
from deployment import Deployment, until
from jobs import run_job
from names import NameServer
from pods import ROOT, Machine, NoKubectlError, render

# As small as can be: three resolutions, a few seconds a stage. Only sizes and lengths differ from the manifests.
DATASET = ["--resolution", "16", "--count", "100"]
TRAIN = [
    *("--resolution", "16", "--fmap-base", "64", "--fmap-max", "8", "--batch-sizes", "8", "--tick-kimg", "0.05"),
    *("--stable-kimg", "0.1", "--fade-kimg", "0.1", "--metric-images", "0"),
]
# New servers and versions are found sooner than by the manifests; else all is as there.
SERVE = ["--max-connection-age-s", "20", "--poll-s", "1", "--log-format", "text"]

NOT_SHOWN = """\
Not shown: the cluster's network, its policies and its DNS; the real scheduler, kubelet and controllers (what they do by
the manifests is played); the pull of an image; a lost node or disk; storage classes; autoscaler, Prometheus, GPUs."""


@dataclass(frozen=True)
class Row:
    """A part of the rehearsal: what happened, and what the callers saw meanwhile."""

    what: str
    seconds: float
    calls: int
    images: int
    failed: int
    seen: str


class Rehearsal:
    """The machine, its servers and callers, and the table that grows."""

    def __init__(self, directory: Path) -> None:
        self.volumes = {f"progan-{name}": directory / name for name in ("data", "runs", "models")}
        for volume in self.volumes.values():
            volume.mkdir()
        self.machine = Machine(self.volumes)
        self.log = directory / "log.txt"
        self.rows: list[Row] = []
        self.faults: list[str] = []
        self.servers = Deployment(render(ROOT / "k8s/overlays/cpu"), self.machine, self.log, SERVE)
        names = NameServer(self.servers.addresses)
        self.callers = Callers(f"dns://127.0.0.1:{names.port}/progan:8500", "faces")
        self.store = self.volumes["progan-models"] / "faces"

    @contextmanager
    def part(self, what: str) -> Iterator[Callable[[str], None]]:
        """A row of the table; the block says what was seen."""
        print(f"... {what}", flush=True)
        seen: list[str] = []
        before, began = _copy(self.callers.account), time.monotonic()
        yield seen.append
        after = self.callers.account
        failed = after.failures.total() - before.failures.total()
        seconds = time.monotonic() - began
        images = after.images - before.images
        self.rows.append(Row(what, seconds, after.calls - before.calls, images, failed, "; ".join(seen)))
        print(f"    {seconds:.0f} s, {failed} failed; {'; '.join(seen)}", flush=True)

    def expect(self, holds: bool, what: str) -> None:
        """Report a fault, and go on: the rest may say why."""
        if not holds:
            self.faults.append(what)

    def train(self, total_kimg: str, started: Callable[["subprocess.Popen[bytes]", int], None]) -> list[str]:
        options = {"train": [*TRAIN, "--total-kimg", total_kimg], "export": ["--no-invert"]}
        resources = render(ROOT / "k8s/train")
        return run_job(resources, "progan-train", self.machine, self.log, options=options, started=started)

    def until_served(self, version: int) -> float:
        """Wait until every server answers with a version; return the seconds."""
        label = str(version)
        servers = [server for server in self.servers.servers if server.ready and not server.leaving]
        return until(
            lambda: all(one.metric("progan_model_ready", model="faces") and _serves(one, label) for one in servers),
            f"all servers serve version {version}",
        )


def rehearse(directory: Path) -> Rehearsal:
    """Play everything, in the order of a life."""
    it = Rehearsal(directory)
    with it.part("dataset Job") as seen:
        dataset = run_job(
            render(ROOT / "k8s/dataset"), "progan-dataset", it.machine, it.log, options={"dataset": DATASET}
        )
        seen(", ".join(dataset))

    with it.part("training Job, preempted by SIGTERM") as seen:
        checkpoints = it.volumes["progan-runs"] / "faces/checkpoints"

        def preempt(process: "subprocess.Popen[bytes]", pod: int) -> None:
            if pod == 0:
                until(lambda: any(checkpoints.glob("images-*.npz")) or process.poll() is not None, "it has saved")
                process.send_signal(signal.SIGTERM)

        pods = it.train("0.8", preempt)
        it.expect(pods == ["train ended with 75: Ignore", "done"], f"pods of the training: {pods}")
        seen(f"pods: {', '.join(pods)}; version {_newest(it.store)} is published")

    try:
        with it.part("two servers start") as seen:
            it.servers.start_all()
            it.callers.start()
            until(lambda: it.callers.account.streams >= 0 and it.callers.account.calls > 20, "clients are answered")
            seen(f"clients know {', '.join(it.servers.addresses())}")

        with it.part("a longer training publishes version 2") as seen:
            it.train("0.9", lambda process, pod: None)
            seen(f"served by all {it.until_served(2):.0f} s after the Job")
        it.callers.finish_streams()  # those that version 1 makes: a new server would not have it any more

        with it.part("a new image is rolled out, under long streams") as seen:
            codes = it.servers.roll_out(revision="2")
            it.expect(codes == [0, 0], f"old servers ended with {codes}")
            seen(f"old servers ended with {codes}; streams that went on elsewhere: {it.callers.went_on}")

        with it.part("SIGKILL of one server, and another in its place") as seen:
            before = it.callers.went_on
            alive = [server for server in it.servers.servers if not server.leaving]
            max(alive, key=lambda one: one.metric("progan_requests_in_flight", method="StreamGenerate")).kill()
            it.servers.start(revision="2")
            seen(f"streams that went on elsewhere: {it.callers.went_on - before}")

        with it.part("a damaged version 3 appears") as seen:
            _publish_damaged(it.store)
            alive = [server for server in it.servers.servers if server.ready and not server.leaving]
            until(lambda: all(one.metric("progan_model_load_failures_total") for one in alive), "all have refused it")
            it.expect(it.callers.account.versions == {1, 2}, f"images of {it.callers.account.versions}")
            seen("refused and counted by all; version 2 goes on")
            shutil.rmtree(it.store / "3")

        with it.part("a third server is started") as seen:
            [new] = it.servers.start(revision="2")
            took_s = until(lambda: new.metric("progan_requests_total", method="Generate", code="OK"), "clients find it")
            seen(f"gets calls {took_s:.0f} s after it is ready")

        with it.part("and taken away again, under long streams") as seen:
            before = it.callers.went_on
            it.expect((code := new.stop()) == 0, f"the third server ended with {code}")
            seen(f"streams that went on elsewhere: {it.callers.went_on - before}")
            it.callers.stop()
    finally:
        it.servers.close()
    return it


def _copy(account: Account) -> Account:
    return replace(account, failures=account.failures.copy())


def _newest(model: Path) -> int:
    return max(int(version.name) for version in model.iterdir() if version.name.isdecimal())


def _serves(server: "object", version: str) -> bool:
    return bool(server.metric("progan_model_info", model="faces", version=version))  # type: ignore[attr-defined]


def _publish_damaged(model: Path) -> None:
    """A version whose weights were damaged on their way."""
    staging = model / ".damaged"
    shutil.copytree(model / "2", staging)
    [weights] = staging.glob("variables/variables.data-*")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    staging.rename(model / "3")


def table(rehearsal: Rehearsal) -> str:
    """The report, as Markdown."""
    account = rehearsal.callers.account
    lines = ["| what happens | seconds | calls | images | failed | seen |", "|---|---:|---:|---:|---:|---|"]
    for row in rehearsal.rows:
        lines.append(f"| {row.what} | {row.seconds:.0f} | {row.calls} | {row.images} | {row.failed} | {row.seen} |")
    calls = f"{account.calls} calls, the slowest {account.slowest_s:.1f} s, and {account.streams} streams"
    lines += ["", f"{calls}: {account.images} images checked, {account.failures.total()} failed."]
    lines += [f"- {count} x {failure}" for failure, count in account.failures.items()]
    lines += [f"- not as it should be: {fault}" for fault in rehearsal.faults]
    return "\n".join([*lines, "", NOT_SHOWN])


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="progan-rehearsal-") as directory:
        try:
            rehearsal = rehearse(Path(directory))
        except NoKubectlError as error:
            print(f"rehearse: {error}", file=sys.stderr)
            return 1
        except BaseException:
            log = Path(directory) / "log.txt"
            if log.exists():
                print(re.sub(r"(?s).*?(.{0,4000})$", r"\1", log.read_text(errors="replace")), file=sys.stderr)
            raise
    report = table(rehearsal)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/rehearsal.md").write_text(report + "\n")
    print(f"\n{report}")
    return int(bool(rehearsal.faults) or rehearsal.callers.account.failures.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
