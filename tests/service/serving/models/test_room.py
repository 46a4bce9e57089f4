"""Several models in the memory there is: what does not fit is refused, and what serves goes on."""

import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from served import Served

from progan_client import Client, Model
from progan_service.host.memory import Bound
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.loader import Loader
from progan_service.serving.models.model import State, VersionStatus
from progan_service.serving.models.room import NoRoomError, estimated_bytes, fits, require_room
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.metadata import METADATA_FILE, ModelMetadata
from progan_service.store.store import ModelStore

MIB, GIB = 2**20, 2**30
PATIENCE_S = 120

SERVE_IN_CONTAINER = """
import sys
from functools import partial
from pathlib import Path
from progan_service.host import memory
memory.tightest_bound = partial(memory.tightest_bound, Path(sys.argv.pop(1)))
from progan_service.commands.parser import main
sys.exit(main())
"""


class Container:
    """The files in which a container's kernel tells its limit of memory."""

    def __init__(self, directory: Path, limit_bytes: int, used_bytes: int) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "memory.current").write_text(f"{used_bytes}\n")
        (directory / "memory.stat").write_text("file 0\nshmem 0\n")
        self.limit(limit_bytes)

    def limit(self, limit_bytes: int) -> None:
        partial = self.directory / "partial"
        partial.write_text(f"{limit_bytes}\n")
        partial.rename(self.directory / "memory.max")


class Contained(Served):
    """A `progan serve` in a container of which only the files are real."""

    def __init__(self, store: Path, container: Container) -> None:
        program = (sys.executable, "-c", SERVE_IN_CONTAINER, container.directory)
        super().__init__("--store", store, "--poll-s", "0.2", program=program)
        self.client = Client(self.target, timeout_s=PATIENCE_S)

    def until(self, name: str, holds: Callable[[Model], bool]) -> Model:
        while not holds(model := self.client.model(name)):
            time.sleep(0.05)
        return model

    def end(self) -> None:
        self.client.close()
        super().end()


@pytest.fixture
def store(tmp_path: Path, publish_puppet: Callable[..., int]) -> ModelStore:
    """The model `able`, and `big`, whose files are 400 MiB."""
    root = tmp_path / "store"
    root.mkdir()
    publish_puppet(root, "able")
    store = ModelStore(root)

    def write(directory: Path) -> ModelMetadata:
        shutil.copytree(store.path("able", 1), directory, dirs_exist_ok=True)
        (directory / METADATA_FILE).unlink()
        with (directory / "weights").open("wb") as file:
            file.truncate(400 * MIB)
        return replace(store.metadata("able", 1), files={})

    store.publish("big", write)
    return store


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path / "container", GIB, GIB - 364 * MIB)


@pytest.fixture
def served(store: ModelStore, container: Container) -> Iterator[Contained]:
    served = Contained(store.root, container)
    yield served
    served.end()


def test_a_model_that_does_not_fit_is_refused_and_the_other_one_serves(served: Contained, container: Container) -> None:
    logged = served.line("model big version 1 cannot be served")["message"]
    assert re.fullmatch(
        r"model big version 1 cannot be served: it needs 40\d MiB of memory, and \d\d\d MiB are free beside what is "
        r"loaded \(the memory limit of the container is 1.0 GiB; 64 MiB of it stay free for calls\); it is tried again "
        r"when there is room",
        logged,
    )
    [refused] = served.client.model("big").versions
    assert (refused.state, refused.memory_bytes) == ("failed", 0)
    assert refused.error in logged
    [able] = served.until("able", lambda model: model.serving_version == 1).versions
    assert 0 < able.memory_bytes < 300 * MIB
    assert len(served.client.generate(seeds=[1, 2], model="able").pixels) == 2

    container.limit(2 * GIB)
    [fitting] = served.until("big", lambda model: model.serving_version == 1).versions
    assert (fitting.state, fitting.error) == ("ready", "")
    assert len(served.client.generate(seeds=[1], model="big").pixels) == 1


@pytest.mark.soak
def test_versions_take_over_from_each_other_beside_a_model_that_does_not_fit(
    served: Contained, store: ModelStore, publish_puppet: Callable[..., int]
) -> None:
    served.until("able", lambda model: model.serving_version == 1)
    for version in range(2, 12):
        publish_puppet(store.root, "able", base=100 + version)
        while served.client.model("able").serving_version != version:
            pixels = served.client.generate(seeds=list(range(16)), model="able").pixels
            assert pixels.shape == (16, 4, 4, 3)
    versions = served.until("able", lambda model: sum(each.memory_bytes > 0 for each in model.versions) == 1).versions
    assert [version.state for version in versions] == ["ready", *["available"] * 10]
    assert served.client.model("big").versions[0].state == "failed"


class Played:
    """Memory with a limit of 1 GiB, as a version finds it that takes 600 MiB, whatever its files say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from progan_service.host.tensorflow import import_tensorflow

        import_tensorflow()
        from progan_service.serving.models.servable import DeviceMemory

        self.used_bytes = 500 * MIB
        monkeypatch.setattr(DeviceMemory, "bound", property(lambda _: Bound("the limit", GIB, self.used_bytes)))
        monkeypatch.setattr(DeviceMemory, "taken_bytes", lambda _: 600 * MIB)


async def test_what_shows_itself_too_large_when_it_is_loaded_is_refused_until_there_is_room(
    tmp_path: Path, publish_puppet: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_puppet(tmp_path, "able")
    memory, metrics = Played(monkeypatch), Metrics()
    catalog = ModelCatalog(ServerConfig(tmp_path, batching=BatchingConfig(max_batch_size=1)), metrics)

    async def after_a_look() -> VersionStatus:
        await catalog.refresh()
        return catalog.model("able").versions[0]

    def counted(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"model": "able", **labels})

    refused = await after_a_look()
    assert (refused.state, refused.memory_bytes) == (State.FAILED, 0)
    assert refused.error == (
        "it needs 600 MiB of memory, and 460 MiB are free beside what is loaded (the limit is 1.0 GiB; 64 MiB of it "
        "stay free for calls)"
    )
    memory.used_bytes = 400 * MIB  # the files would fit; it is known better
    assert (await after_a_look()).state is State.FAILED
    assert counted("progan_model_load_failures_total", reason="memory") == 1
    assert counted("progan_model_memory_bytes", version="1") is None
    memory.used_bytes = 300 * MIB
    ready = await after_a_look()
    assert (ready.state, ready.error, ready.memory_bytes) == (State.READY, "", 600 * MIB)
    assert counted("progan_model_memory_bytes", version="1") == 600 * MIB
    catalog.close()


def test_what_tensorflow_keeps_for_the_next_version_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    from progan_service.host.tensorflow import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    from progan_service.serving.models import servable

    monkeypatch.setattr(servable, "tightest_bound", lambda: Bound("the limit", 8 * GIB, 4 * GIB))
    memory = servable.DeviceMemory("")
    memory.mark()
    held = tf.zeros([64, MIB])
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("TensorFlow counts memory only where it computes by oneDNN")
    assert memory.taken_bytes() >= 256 * MIB
    del held
    bound = memory.bound
    assert bound
    assert bound.used_bytes <= 4 * GIB - 256 * MIB
    assert memory.holds(8)
    assert not memory.holds(80)


def test_an_estimate_is_the_files_and_one_image() -> None:
    assert estimated_bytes(361 * MIB, 128) == 369 * MIB


def test_64_mib_stay_free_for_calls() -> None:
    bound = Bound("the memory of GPU:0", 4 * GIB, 3 * GIB)
    assert fits(960 * MIB, bound)
    require_room(960 * MIB, bound)
    assert not fits(961 * MIB, bound)
    with pytest.raises(NoRoomError) as refusal:
        require_room(2 * GIB, bound)
    assert str(refusal.value) == (
        "it needs 2.0 GiB of memory, and 960 MiB are free beside what is loaded (the memory of GPU:0 is 4.0 GiB; "
        "64 MiB of it stay free for calls)"
    )


def test_where_no_limit_is_known_everything_fits() -> None:
    require_room(1000 * GIB, None)


def test_the_memory_of_gpus_is_in_the_metrics_and_that_of_cpus_is_not(tmp_path: Path) -> None:
    metrics = Metrics()
    loader = Loader(ServerConfig(tmp_path), metrics, ModelStore(tmp_path))
    gpu: Any = SimpleNamespace(limit_bytes=80 * GIB, allocated_bytes=lambda: 3 * GIB)
    loader._memories = {"GPU:0": gpu, "": gpu}
    loader._measure_memory()
    pages = [metric.collect() for metric in (metrics.device_memory, metrics.device_memory_limit)]
    samples = [(sample.labels["device"], sample.value) for [family] in pages for sample in family.samples]
    assert samples == [("GPU:0", 3 * GIB), ("GPU:0", 80 * GIB)]


def test_gradients_that_do_not_fit_into_a_device_are_counted_like_images(tmp_path: Path) -> None:
    metrics = Metrics()
    loader = Loader(ServerConfig(tmp_path), metrics, ModelStore(tmp_path))
    loader._of_gradients.out_of_memory.labels("faces").inc()
    assert metrics.registry.get_sample_value("progan_out_of_memory_total", {"model": "faces"}) == 1
