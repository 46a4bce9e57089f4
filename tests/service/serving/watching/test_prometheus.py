"""What a person on call asks, answered by a real Prometheus that watches real servers under load."""

import asyncio
import base64
import json
import math
import re
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from prometheus import ROOT, Prometheus
from web import Web

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server

pytestmark = pytest.mark.check

PATIENCE_S = 60
SERVICE = "/progan.v1.ImageGeneratorService"
TOKENS = "alice alices-token-0123456789\nbob bobs-token-0123456789\n"
README = (ROOT / "k8s" / "README.md").read_text()
QUESTIONS = dict(re.findall(r"^\*\*(.*?)\*\*.*?```promql\n(.*?)```", README, re.DOTALL | re.MULTILINE))
ONLY_ON_GPUS = {"GPU memory"}

Samples = list[tuple[dict[str, str], float]]


@contextmanager
def event_loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs what is given to it, in a loop and thread of its own, and returns the result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="servers")
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(5 * PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Scene:
    """Four servers, and Prometheus.

    guarded   has TLS, tokens and the first version of the model
    busy      has a newer version; its device hangs, and calls wait
    empty     has no model
    leaving   is in its lame duck
    """

    def __init__(self, folder: Path, publish: Callable[..., int], held: ExitStack) -> None:
        self._folder = folder
        self._publish = publish
        self._held = held
        self._run = held.enter_context(event_loop())
        for store in ("guarded", "busy", "nothing"):
            (folder / store).mkdir()
        publish(folder / "guarded", "puppet", base=10)
        for _ in range(2):
            publish(folder / "busy", "puppet")
        self.guarded = self._serve("guarded", revision="5ccefbc", **_guards(folder))
        self.busy = self._serve("busy", revision="b65d5f9", hang_s=0.1, batching=BatchingConfig(max_batch_size=4))
        self.empty, self.leaving = self._serve("nothing"), self._serve("nothing")
        self._run(self.leaving._health.draining())
        pods = {name: getattr(self, name).http_port for name in ("guarded", "busy", "empty", "leaving")}
        self.prometheus = Prometheus(folder, pods, tls={"guarded"})
        held.callback(self.prometheus.stop)
        held.callback((folder / "busy" / ".hold").unlink, missing_ok=True)

    def _serve(self, store: str, **settings: Any) -> Server:
        async def start() -> Server:
            server = Server(ServerConfig(self._folder / store, port=0, http_port=0, lame_duck_s=0, **settings))
            await server.start()
            await server.refresh()
            return server

        server: Server = self._run(start())
        self._held.callback(lambda: self._run(server.stop()))
        return server

    def serve_others(self) -> None:
        trusting = ssl.create_default_context(cafile=str(self._folder / "root"))
        for name, calls in (("alice", 6), ("bob", 2)):
            web = Web(self.guarded.http_port, trusting, {"Authorization": f"Bearer {name}s-token-0123456789"})
            for _ in range(calls):
                web.post(f"{SERVICE}/Generate", {"latents": {"seedRange": {"count": 2}}})
        busy, latents = Web(self.busy.http_port), {"seedRange": {"count": 6}}
        for _ in range(10):
            busy.post(f"{SERVICE}/Generate", {"latents": latents, "format": {"encoding": "IMAGE_ENCODING_PNG"}})
        busy.post(f"{SERVICE}/Generate", {"latents": {"seedRange": {"count": 0}}})
        stream = json.dumps({"latents": latents, "priority": "PRIORITY_BULK"}).encode()
        busy.post(
            f"{SERVICE}/StreamGenerate", b"\0" + len(stream).to_bytes(4, "big") + stream, "application/connect+json"
        )

    def fail_to_load(self) -> None:
        version = self._publish(self._folder / "busy", "puppet")
        (self._folder / "busy" / "puppet" / str(version) / "saved_model.pb").write_bytes(b"damaged")
        for _ in range(2):  # damaged files may be a copy in progress: they are reported when they have come to rest
            self._run(self.busy.refresh())

    def hang(self) -> None:
        """Four images are on the device, and their caller has left; three wait, and five of bulk work."""
        (self._folder / "busy" / ".hold").touch()
        gone = self._ask_busy(4)
        self._until("progan_unsent_bytes", lambda size: size > 0)
        self._until('progan_queue_rows{model="puppet",priority="interactive"}', lambda rows: rows == 0)
        gone.close()
        self._until('progan_rows_wasted_total{model="puppet"}', lambda rows: rows == 4)
        self._ask_busy(3)
        self._ask_busy(5, "PRIORITY_BULK")
        self._until('progan_queue_rows{model="puppet",priority="bulk"}', lambda rows: rows == 5)
        for _ in range(3):
            time.sleep(0.1)
            self._run(self.busy.watch_devices())

    def _ask_busy(self, rows: int, priority: str = "PRIORITY_INTERACTIVE") -> HTTPConnection:
        """Call for images that take as long as the file `.hold` is there."""
        values = base64.b64encode(np.array([[0, 0, 100, 1]] * rows, "<f4").tobytes()).decode()
        latents = {"vectors": {"rows": rows, "columns": 4, "values": values}}
        caller = Web(self.busy.http_port).connect()
        self._held.callback(caller.close)
        body = json.dumps({"latents": latents, "priority": priority})
        caller.request("POST", f"{SERVICE}/Generate", body, {"Content-Type": "application/json"})
        return caller

    def _until(self, sample: str, holds: Callable[[float], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            lines = Web(self.busy.http_port).get("/metrics").body.decode().splitlines()
            [value] = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")]
            if holds(value):
                return
            assert time.monotonic() < give_up, (sample, value)
            time.sleep(0.05)


def _guards(folder: Path) -> dict[str, Path]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "root"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "pem"))
    (folder / "tokens").write_text(TOKENS)
    return {"tls_cert": folder / "pem", "tls_key": folder / "pem", "tokens": folder / "tokens"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, publish_puppet: Callable[..., int]) -> Iterator[Prometheus]:
    """Prometheus, when it has seen all that happened."""
    with ExitStack() as held:
        scene = Scene(tmp_path_factory.mktemp("watched"), publish_puppet, held)
        for calls in (10, 20):  # a rate needs two samples, and durations appear with their first call
            scene.serve_others()
            scene.prometheus.until("sum(progan_encode_duration_seconds_count)", sums_to(calls))
        scene.prometheus.until("sum(progan_caller_requests_total)", sums_to(16))
        scene.fail_to_load()
        scene.hang()
        scene.prometheus.until("progan_model_hanging == 1", bool)
        scene.prometheus.until("sum(progan_queue_rows)", lambda samples: samples[0][1] == 8)
        yield scene.prometheus


def sums_to(total: float) -> Callable[[Samples], bool]:
    return lambda samples: [value for _, value in samples] == [total]


def answer(prometheus: Prometheus, question: str) -> Samples:
    return prometheus.ask(QUESTIONS[question])


def by(label: str, samples: Samples) -> dict[str, float]:
    return {labels[label]: value for labels, value in samples}


def test_there_are_twelve_questions() -> None:
    assert len(QUESTIONS) == 12


def test_answers_are_slow_because_of_a_stage(prometheus: Prometheus) -> None:
    stages = by("stage", answer(prometheus, "Why are answers slow?"))
    assert stages.keys() == {"the whole call", "queue", "computing", "encoding"}
    assert all(0 < seconds < PATIENCE_S for seconds in stages.values())


def test_the_first_version_that_could_not_be_loaded_is_seen(prometheus: Prometheus) -> None:
    [(failure, times)] = answer(prometheus, "Could a version not be loaded?")
    assert (failure["pod"], failure["model"], failure["reason"]) == ("busy", "puppet", "invalid")
    assert times == pytest.approx(1, abs=0.5)  # Prometheus extrapolates


def test_a_server_without_a_model_and_one_that_leaves_are_seen(prometheus: Prometheus) -> None:
    found = answer(prometheus, "Which server has no model, or is leaving?")
    states = {(labels["pod"], labels["state"]) for labels, _ in found}
    assert states == {("empty", "not_ready"), ("leaving", "lame_duck"), ("busy", "not_ready")}  # its device hangs


def test_the_share_of_computing_that_reached_nobody_is_known(prometheus: Prometheus) -> None:
    [(_, share)] = answer(prometheus, "How much computing is thrown away?")
    # Of 32 images on `guarded`, 132 on `busy`, and the 4 that hang.
    assert share == pytest.approx(4 / 168, rel=0.5)


def test_it_is_known_how_near_to_capacity_each_server_is(prometheus: Prometheus) -> None:
    used = by("pod", answer(prometheus, "How near to capacity are the servers?"))
    assert used.keys() == {"guarded", "busy"}
    assert all(0 < share < 1 for share in used.values())


def test_the_model_that_fills_the_queue_has_a_name(prometheus: Prometheus) -> None:
    assert answer(prometheus, "Which model fills the queue?") == [({"model": "puppet"}, 8)]


def test_who_sends_the_load_has_a_name(prometheus: Prometheus) -> None:
    rates = by("caller", answer(prometheus, "Who sends the load?"))
    assert list(rates) == ["alice", "bob"]
    assert rates["alice"] == pytest.approx(3 * rates["bob"])


def test_interactive_and_bulk_work_wait_apart(prometheus: Prometheus) -> None:
    waiting = by("priority", answer(prometheus, "Does interactive work wait, or bulk work?"))
    assert waiting == {"interactive": 3, "bulk": 5}


def test_a_device_that_hangs_is_seen(prometheus: Prometheus) -> None:
    [(labels, _)] = answer(prometheus, "Is a device out of memory, or does it hang?")
    assert (labels["pod"], labels["model"], labels["problem"]) == ("busy", "puppet", "hangs")


def test_servers_with_different_versions_are_seen(prometheus: Prometheus) -> None:
    versions = answer(prometheus, "Do all servers have the same version?")
    assert sorted((labels["version"], servers) for labels, servers in versions) == [("1", 1), ("2", 1)]


def test_it_is_known_which_build_runs_where(prometheus: Prometheus) -> None:
    builds = {labels["pod"]: labels.get("revision") for labels, _ in answer(prometheus, "Which build runs where?")}
    assert builds == {"guarded": "5ccefbc", "busy": "b65d5f9", "empty": None, "leaving": None}


def test_it_is_known_how_long_a_certificate_lasts_and_how_old_the_files_are(prometheus: Prometheus) -> None:
    seconds = by("what", answer(prometheus, "Is a certificate or a token file stale?"))
    assert seconds.keys() == {"left of the certificate", "certificates", "tokens"}
    assert seconds["left of the certificate"] > 86_400
    assert 0 <= seconds["certificates"] < 10 * PATIENCE_S


def test_every_panel_of_the_dashboard_shows_what_the_servers_say(prometheus: Prometheus) -> None:
    board = json.loads((ROOT / "k8s/components/monitoring/dashboard.json").read_text())
    empty = []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$namespace", "progan").replace("$__rate_interval", "5m")
            if not any(not math.isnan(value) for _, value in prometheus.ask(query)):
                empty.append((panel["title"], query))
    assert {title for title, _ in empty} == ONLY_ON_GPUS, empty


def test_alerts_can_be_evaluated_and_those_that_should_wait_do(prometheus: Prometheus) -> None:
    prometheus.until("ALERTS", lambda samples: {"ProganDeviceHangs"} <= {labels["alertname"] for labels, _ in samples})
    rules = prometheus.rules()
    assert {rule["health"] for rule in rules} == {"ok"}
    states = {rule["name"]: rule["state"] for rule in rules}
    assert {name: states[name] for name in ("ProganLoadFailures", "ProganDeviceHangs", "ProganVersionsDiffer")} == {
        "ProganLoadFailures": "firing",
        "ProganDeviceHangs": "pending",
        "ProganVersionsDiffer": "pending",
    }
    assert states["ProganNoReadyServer"] == "inactive"
