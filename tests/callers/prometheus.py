"""A real Prometheus: from the PATH, or as `make check` unpacks it."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
_UNPACKED = ROOT / ".prometheus" / "usr" / "bin"
_PATIENCE_S = 60


def tool(name: str) -> str:
    """The path of `prometheus` or `promtool`. Without it the test is skipped."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:{_UNPACKED}")
    if found is None:
        pytest.skip(f"{name} is needed: `make .prometheus/ready` unpacks it, or install it and put it on the PATH.")
    return found


def rule_groups() -> dict[str, Any]:
    """The alerts, as Prometheus reads them: what the operator makes of the PrometheusRule."""
    resource = yaml.safe_load((ROOT / "k8s/components/monitoring/prometheus-rule.yaml").read_text())
    return dict(resource["spec"])


class Prometheus:
    """Scrapes servers every second and evaluates the alerts, until `stop`.

    `pods` is the port of each server by name of its pod; those of `tls` are asked by HTTPS.
    """

    def __init__(self, folder: Path, pods: dict[str, int], tls: set[str]) -> None:
        (folder / "rules.yml").write_text(yaml.safe_dump(rule_groups()))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(_config(pods, tls)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/api/v1"
        self._log = (folder / "log").open("w+")
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command = [tool("prometheus"), *options, f"--web.listen-address=127.0.0.1:{port}"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        self.until("sum(up)", lambda samples: [value for _, value in samples] == [len(pods)])

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The labels and value of each sample of the answer."""
        asked = f"{self._url}/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(asked, timeout=_PATIENCE_S) as reply:
            result = json.load(reply)["data"]
        if result["resultType"] == "scalar":
            return [({}, float(result["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in result["result"]]

    def until(self, query: str, holds: Any) -> None:
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            assert self._process.poll() is None, Path(self._log.name).read_text()
            try:
                found = self.ask(query)
            except OSError:
                found = []
            if holds(found):
                return
            assert time.monotonic() < give_up, f"{query}: {found}"
            time.sleep(0.2)

    def rules(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self._url}/rules", timeout=_PATIENCE_S) as reply:
            return [rule for group in json.load(reply)["data"]["groups"] for rule in group["rules"]]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE_S)
        self._log.close()


def _config(pods: dict[str, int], tls: set[str]) -> dict[str, Any]:
    """Targets have the labels that a PodMonitor gives them."""
    jobs = [
        {
            "job_name": pod,
            "scheme": "https" if pod in tls else "http",
            "tls_config": {"insecure_skip_verify": True},
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{port}"],
                    "labels": {"namespace": "progan", "pod": pod, "container": "server", "endpoint": "http"},
                }
            ],
        }
        for pod, port in pods.items()
    ]
    intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    return {"global": intervals, "rule_files": ["rules.yml"], "scrape_configs": jobs}
