"""Versions swap under a steady load: no call is lost, no reply mixes versions, memory stays where it was."""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from served import Served, served

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.store.bundled import BUNDLED_STORE

Publish = Callable[..., int]
PATIENCE_S = 60


@contextmanager
def serving(store: Path) -> Iterator[Served]:
    """A ready server that looks at its store all the time."""
    with served("--store", store, "--poll-s", "0.1", "--max-batch-size", "4", "--no-log-requests") as server:
        server.line("ready: ")
        yield server


class Load:
    """Callers that ask for puppets without a pause; every image must have the shade of its reply's version."""

    def __init__(self, stub: pb_grpc.ImageGeneratorServiceStub) -> None:
        self._stub = stub
        self._enough = threading.Event()
        self.faults: list[str] = []
        self.answered: list[tuple[int, int]] = []  # version and images of every call
        works = [lambda count=count: self._unary(count) for count in (1, 2, 7)] + [self._stream]
        self._threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._enough.is_set():
            try:
                work()
            except grpc.RpcError as error:
                self.faults.append(str(error))

    def _unary(self, count: int) -> None:
        reply = self._stub.Generate(pb.GenerateRequest(latents=grey(count)), timeout=PATIENCE_S)
        self._check([reply], count)

    def _stream(self) -> None:
        replies = self._stub.StreamGenerate(pb.StreamGenerateRequest(latents=grey(200)), timeout=PATIENCE_S)
        self._check(list(replies), 200)

    def _check(self, replies: list[pb.GenerateResponse], count: int) -> None:
        versions = {reply.model.version for reply in replies}
        shades = {shade for reply in replies for shade in reply.images.pixels}
        images = sum(reply.images.count for reply in replies)
        if images != count or shades != {10 * version for version in versions} or len(versions) != 1:
            self.faults.append(f"{images} of {count} images with shades {shades} by versions {versions}")
        self.answered.append((min(versions), images))


def grey(count: int) -> pb.Latents:
    rows = np.zeros((count, 4), "<f4")
    rows[:, 3] = 1  # a latent needs a direction
    return pb.Latents(vectors=pb.FloatMatrix(rows=count, columns=4, values=rows.tobytes()))


def test_five_versions_in_a_row_lose_no_call_and_mix_no_reply(tmp_path: Path, publish_puppet: Publish) -> None:
    store, workshop = tmp_path / "store", tmp_path / "workshop"
    for directory in (store, workshop):
        directory.mkdir()
        publish_puppet(directory, "puppet", base=10)

    def publish(version: int, golden: int | None = None) -> Path:
        assert publish_puppet(workshop, "puppet", base=10 * version, golden=golden) == version
        return workshop / "puppet" / str(version)

    def deliver(made: Path) -> None:
        aside = shutil.copytree(made, store / f".incoming-{made.name}")
        aside.rename(store / "puppet" / made.name)

    with serving(store) as server, Load(server.stub) as load:
        deliver(publish(2))
        server.line(f"model puppet: version {1} is unloaded")
        corrupt = publish(3)
        (corrupt / "saved_model.pb").write_bytes(b"damaged")
        deliver(corrupt)
        server.line(f"model puppet version {3} cannot be served")
        deliver(publish(4))
        server.line(f"model puppet: version {2} is unloaded")
        deliver(publish(5, golden=200))
        server.line(f"model puppet version {5} cannot be served")
        deliver(publish(6))
        server.line(f"model puppet: version {4} is unloaded")
    assert load.faults == []
    assert {version for version, _ in load.answered} == {1, 2, 4, 6}
    assert {images for _, images in load.answered} == {1, 2, 7, 200}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_twenty_swaps_leave_memory_where_it_was(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "fruits").mkdir(parents=True)
    (bundled,) = (path for path in (BUNDLED_STORE / "fruits").iterdir() if path.name.isdigit())

    def deliver(version: int) -> None:
        shutil.copytree(bundled, store / ".incoming").rename(store / "fruits" / str(version))

    deliver(1)
    with serving(store) as server:
        before = server.metric("process_resident_memory_bytes")
        for version in range(2, 22):
            deliver(version)
            server.line(f"model fruits: version {version - 1} is unloaded")
        assert server.metric("process_resident_memory_bytes") < 1.15 * before
