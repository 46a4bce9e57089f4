"""Puppets: SavedModels without weights whose pictures are known beforehand, and that fail or wait on demand.

A latent is (shade, fail, wait, anything): every pixel of its RGB image is 100 + 10 * shade (another base than 100, if
one is given), `fail` above 50 makes the graph fail, and `wait` above 50 keeps the device busy for as long as there is a
file `.hold` in the store.
"""

import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from progan_service.label_kind import LabelKind
from progan_service.store.metadata import ModelMetadata
from progan_service.store.store import ModelStore

Publish = Callable[..., int]
PATIENCE_S = 120

_WITHOUT_COLLECTOR = """
import gc, sys
gc.disable()
gc.enable = lambda: None
from progan_service.commands.parser import main
sys.exit(main())
"""

PROVENANCE = {"source": "tests", "images_shown": 1200}


@pytest.fixture(scope="session")
def publish_puppet() -> Publish:
    """Publish a puppet: `publish_puppet(root, name)`, of 4x4 images unless `resolution` is given.

    With `labels=2` every pixel is 100 times the second label. `golden` claims that the image of seed 0 has that shade.
    `provenance` takes the place of PROVENANCE, `label_kind` that of classes.
    """
    import tensorflow as tf

    def busy(wait: Any, hold: str) -> Any:
        """Zero, after a while."""

        def held(lap: Any) -> Any:
            file = tf.where(lap < 0.0, "", hold)  # no constant: a constant file would be looked for only once
            return tf.size(tf.io.matching_files(file)) > 0

        laps = tf.while_loop(held, lambda lap: [lap + 1.0], [tf.where(tf.reduce_max(wait) > 50.0, 0.0, -1e9)])
        return tf.minimum(laps[0], 0.0) * 0.0

    def shade(latents: Any, labels: Any, hold: str, base: int) -> Any:
        if labels is not None:
            return 100.0 * labels[:, 1]
        with tf.control_dependencies([tf.debugging.assert_less(latents[:, 1], 50.0, "secret of the graph")]):
            return base + 10.0 * latents[:, 0] + busy(latents[:, 2], hold)

    def publish(
        root: Path,
        name: str,
        *,
        resolution: int = 4,
        labels: int = 0,
        base: int = 100,
        golden: int | None = None,
        label_kind: LabelKind = "classes",
        provenance: Mapping[str, Any] = PROVENANCE,
    ) -> int:
        def generate(latents: Any, labels: Any = None) -> dict[str, Any]:
            pixels = tf.cast(tf.clip_by_value(shade(latents, labels, str(root / ".hold"), base), 0.0, 255.0), tf.uint8)
            return {"images": tf.tile(pixels[:, None, None, None], [1, resolution, resolution, 3])}

        inputs = [tf.TensorSpec([None, 4], tf.float32, name="latents")]
        if labels:
            inputs.append(tf.TensorSpec([None, labels], tf.float32, name="labels"))
        signature = tf.function(generate).get_concrete_function(*inputs)

        def write(directory: Path) -> ModelMetadata:
            tf.saved_model.save(tf.Module(), str(directory), signatures={"generate_uint8": signature})
            names = tuple(f"label {number}" for number in range(labels))
            pictures = {}
            if golden is not None:
                Image.new("RGB", (resolution, resolution), (golden,) * 3).save(directory / "golden.png")
                pictures = {"0": "golden.png"}
            return ModelMetadata(4, resolution, 3, labels, names, provenance, pictures, label_kind=label_kind)

        return ModelStore(root).publish(name, write)

    return publish


@pytest.fixture
def hold(puppet_store: Path) -> Iterator[Path]:
    """The file that keeps the device busy; unlink it to let the work go on."""
    file = puppet_store / ".hold"
    file.touch()
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def puppet_store(tmp_path_factory: pytest.TempPathFactory, publish_puppet: Publish) -> Path:
    """Models `labelled`, `wide` (256x256), and `puppet` with versions 1 to 3, of which the newest is damaged."""
    root = tmp_path_factory.mktemp("puppets")
    for _ in range(3):
        publish_puppet(root, "puppet")
    publish_puppet(root, "labelled", labels=2)
    publish_puppet(root, "wide", resolution=256)
    (root / "puppet" / "3" / "saved_model.pb").write_bytes(b"damaged")
    return root


class ServerProcess:
    """A ready `progan serve` in a process of its own, and what it takes.

    It has no garbage collector: what a call leaves behind stays, and is seen.
    """

    def __init__(self, store: Path, model: str, *options: str) -> None:
        command = [sys.executable, "-c", _WITHOUT_COLLECTOR, "serve", "--store", str(store), "--model", model]
        command += ["--port", "0", "--http-port", "0", "--log-format", "text", "--no-log-requests", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout
        lines = iter(self._process.stdout.readline, "")
        found = next(found for line in lines if (found := re.search(r"gRPC \S+:(\d+), HTTP ([0-9.:]+)", line)))
        self.port, self._url = int(found[1]), f"http://{found[2]}/metrics"
        next(line for line in lines if line.startswith(f"ready: {model} "))
        threading.Thread(target=lambda: list(lines), daemon=True).start()
        self.channel = self.connect()

    def connect(self) -> grpc.Channel:
        """A connection of one's own, which sends and takes messages of any size."""
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", [*options, ("grpc.use_local_subchannel_pool", 1)])

    def health_s(self) -> float:
        """How long its health takes to be answered."""
        began = time.monotonic()
        health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        return time.monotonic() - began

    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * 4096 / 1e6

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        with urllib.request.urlopen(self._url, timeout=PATIENCE_S) as page:
            families = text_string_to_metric_families(page.read().decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def end(self) -> None:
        self.channel.close()
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def serve_process() -> Iterator[Callable[..., ServerProcess]]:
    """`serve_process(store, "puppet", "--stall-s", "3")`; it ends with the module."""
    processes = []

    def start(store: Path, model: str, *options: str) -> ServerProcess:
        processes.append(ServerProcess(store, model, *options))
        return processes[-1]

    yield start
    for process in processes:
        process.end()
