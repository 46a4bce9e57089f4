"""Puppets: SavedModels without weights whose pictures are known beforehand, and that fail or wait on demand.

A latent is (shade, fail, wait, anything): every pixel of its RGB image is 100 + 10 * shade (another base than 100, if
one is given), `fail` above 50 makes the graph fail, and `wait` above 50 keeps the device busy for as long as there is a
file `.hold` in the store.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from served import Served

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


class ServerProcess(Served):
    """A ready `progan serve` without a garbage collector: what a call leaves behind stays, and is seen."""

    def __init__(self, store: Path, model: str, *options: str) -> None:
        places = ("--store", store, "--model", model, "--no-log-requests")
        super().__init__(*places, *options, program=(sys.executable, "-c", _WITHOUT_COLLECTOR))
        self.line(f"ready: {model} ")

    def health_s(self) -> float:
        """How long its health takes to be answered."""
        began = time.monotonic()
        health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        return time.monotonic() - began


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
