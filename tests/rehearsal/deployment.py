"""What Kubernetes does with the pods of the Deployment: start, probe, name, roll out, replace, stop."""

import re
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pods import Machine, Resource, container_of, pod_of

PATIENCE_S = 400


class Server:
    """A pod at an address of its own; `ready` is what the kubelet says of it."""

    def __init__(
        self, pod: Resource, machine: Machine, address: str, log: Path, revision: str, options: list[str]
    ) -> None:
        container = container_of(pod, "server")
        here = Machine(machine.volumes, {**machine.names, "0.0.0.0": address})
        self.address = address
        self.grace_s = pod["spec"]["terminationGracePeriodSeconds"]
        self._ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        self._probe = container["readinessProbe"]
        self.ready = self.leaving = False
        environment = here.environment(pod, "server") | {"PROGAN_REVISION": revision}
        with log.open("ab") as file:
            command = [*here.command(pod, "server"), *options]
            self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        threading.Thread(target=self._probe_on, daemon=True).start()

    def page(self, path: str) -> str:
        """Return a page of the HTTP port. Raises OSError."""
        url = f"http://{self.address}:{self._ports['http']}{path}"
        with urllib.request.urlopen(url, timeout=self._probe["timeoutSeconds"]) as page:
            return str(page.read().decode())

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = re.findall(rf"^{name}({{.*}})? (\S+)$", self.page("/metrics"), re.MULTILINE)
        return sum(float(value) for found, value in samples if all(one in found for one in wanted))

    def stop(self) -> int:
        """End it as Kubernetes does: no longer named, SIGTERM, and SIGKILL after the grace period."""
        self.leaving = True
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.leaving = True

    def _probe_on(self) -> None:
        failures = 0
        while self.process.poll() is None:
            try:
                self.page(self._probe["httpGet"]["path"])
                failures, self.ready = 0, True
            except OSError as error:
                failures += 1
                if self.ready and not self.leaving:
                    print(f"    {self.address} does not answer its probe: {error}", flush=True)
                self.ready = self.ready and failures < self._probe["failureThreshold"]
            time.sleep(self._probe["periodSeconds"])
        self.ready = False


class Deployment:
    """The servers of the Deployment, at 127.0.0.11 and further; `addresses` are those of the headless Service."""

    def __init__(self, resources: list[Resource], machine: Machine, log: Path, options: list[str]) -> None:
        [self._written] = [one["spec"] for one in resources if one["kind"] == "Deployment"]
        self._pod, self._machine, self._log = pod_of(resources, "Deployment", "progan"), machine, log
        self._options = options
        self._started = 0
        self.servers: list[Server] = []

    def addresses(self) -> list[str]:
        return [server.address for server in self.servers if server.ready and not server.leaving]

    def start(self, count: int = 1, revision: str = "1") -> list[Server]:
        """Start servers, and wait until they are ready."""
        new = []
        for _ in range(count):
            self._started += 1
            address = f"127.0.0.{10 + self._started}"
            new.append(Server(self._pod, self._machine, address, self._log, revision, self._options))
        self.servers += new
        until(lambda: all(server.ready for server in new), f"{count} new servers are ready")
        return new

    def start_all(self) -> list[Server]:
        return self.start(self._written["replicas"])

    def roll_out(self, revision: str) -> list[int]:
        """Replace all servers, one after the other, as the strategy of the manifest says; return their exit codes."""
        assert self._written["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        codes = []
        for old in [server for server in self.servers if not server.leaving]:
            self.start(revision=revision)
            time.sleep(self._written["minReadySeconds"])
            codes.append(old.stop())
        return codes

    def close(self) -> None:
        for server in self.servers:
            server.kill()


def until(holds: Callable[[], object], what: str) -> float:
    """Wait until something holds; return the seconds it took. Raises TimeoutError."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(f"waited {PATIENCE_S} s in vain until {what}")
        time.sleep(0.1)
    return time.monotonic() - began
