"""Images become files in turns; who wants files is let in only as far as the encoders can follow."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.serving.access.quotas import Quotas
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch
from progan_service.serving.batching.work import Priority, Work
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded, QueueFull
from progan_service.serving.files.encoders import Encoders
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format
from progan_service.serving.jobs.job import Job, Piece
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.jobs.rows import NO_LABELS, of_range
from progan_service.serving.jobs.unsent import Unsent
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.metadata import ModelMetadata

BATCHING = BatchingConfig(max_batch_size=4, max_queued_rows=16)
ROOM = 20  # for the rows that wait, and for a batch on the device

Inputs = tuple[NDArray[np.float32], ...]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


def device(inputs: Inputs, done: Callable[[Batch | Exception], None]) -> None:
    """Black images of 4x4, in no time."""
    batch = Batch(np.zeros((len(inputs[0]), 4, 4, 3), np.uint8), seconds=0.0)
    asyncio.get_running_loop().call_soon(done, batch)


def held_device(inputs: Inputs, done: Callable[[Batch | Exception], None]) -> None:
    """Never ends."""


def work_for_the_next(seconds: float, rows: int = 1, *, patient: bool = False) -> Work:
    now = time.monotonic()
    return Work(rows, now + seconds, now, patient=patient)


def loaded_version(metrics: Metrics, run: Callable[..., None] = device) -> LoadedVersion:
    batcher = DynamicBatcher([run], BATCHING, metrics, "puppet")
    return LoadedVersion("puppet", 1, ModelMetadata(4, 4, 3), "float32", 0, batcher, Gate())


class Scene:
    """Encoders, and what they write: a file is the name of its call and the place of its image.

    While `held`, each of them stops before its next file.
    """

    def __init__(self, threads: int) -> None:
        self.metrics = Metrics()
        self.encoders = Encoders(threads, BATCHING, self.metrics)
        self.written: list[str] = []
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    def hold(self) -> None:
        self._may_go_on.clear()

    def go_on(self) -> None:
        self._may_go_on.set()

    def write(self, name: str, place: int) -> bytes:
        if name == "damaged" and place == 1:
            raise ValueError("no such picture")
        self.written.append(f"{name}{place}")
        assert self._may_go_on.wait(60)
        return f"{name}{place}".encode()

    def order(
        self, name: str, rows: int = 1, *, deadline_s: float = float("inf"), priority: Priority = Priority.INTERACTIVE
    ) -> asyncio.Task[list[bytes]]:
        work = Work(rows, time.monotonic() + deadline_s, priority=priority, model="puppet")
        return asyncio.create_task(self.encoders.encode(work, partial(self.write, name)))

    async def queued(self, rows: int) -> None:
        await until(lambda: sum(map(self.encoders.queued_rows, Priority)) == rows)

    def dropped(self, reason: str) -> float:
        samples = [sample for family in self.metrics.registry.collect() for sample in family.samples]
        return sum(
            one.value for one in samples if one.name == "progan_rows_dropped_total" and one.labels["reason"] == reason
        )


@asynccontextmanager
async def scene(threads: int = 1) -> AsyncIterator[Scene]:
    played = Scene(threads)
    try:
        yield played
    finally:
        played.go_on()
        played.encoders.close()


@asynccontextmanager
async def busy_scene() -> AsyncIterator[Scene]:
    """The only thread is held at a first image: x0."""
    async with scene() as played:
        played.hold()
        first = played.order("x")
        await until(lambda: played.written == ["x0"])
        yield played
        played.go_on()
        assert await first == [b"x0"]


# --- the queue ---


async def test_files_come_in_the_order_of_their_images_whichever_thread_is_first() -> None:
    async with scene(threads=4) as played:
        assert await played.order("a", 500) == [f"a{place}".encode() for place in range(500)]


async def test_a_small_call_passes_a_large_one() -> None:
    async with busy_scene() as played:
        many, lone = played.order("many", 3), played.order("lone")
        await played.queued(4)
        played.go_on()
        assert await lone == [b"lone0"]
        assert await many == [b"many0", b"many1", b"many2"]
        assert played.written == ["x0", "lone0", "many0", "many1", "many2"]


async def test_interactive_work_comes_before_bulk() -> None:
    async with busy_scene() as played:
        bulk, interactive = played.order("bulk", 2, priority=Priority.BULK), played.order("interactive", 2)
        await played.queued(4)
        assert [played.encoders.queued_rows(priority) for priority in Priority] == [2, 2]
        played.go_on()
        await asyncio.gather(bulk, interactive)
        assert played.written == ["x0", "interactive0", "interactive1", "bulk0", "bulk1"]


async def test_images_of_a_caller_that_has_gone_are_not_encoded() -> None:
    async with busy_scene() as played:
        gone, stays = played.order("gone", 3), played.order("stays")
        await played.queued(4)
        gone.cancel()
        await played.queued(1)
        played.go_on()
        assert await stays == [b"stays0"]
        assert gone.cancelled()
        assert played.written == ["x0", "stays0"]
        assert played.dropped("cancelled") == 3


async def test_a_caller_that_goes_while_its_image_is_encoded_harms_nobody() -> None:
    async with scene() as played:
        played.hold()
        gone = played.order("gone", 2)
        await until(lambda: played.written == ["gone0"])
        gone.cancel()
        await played.queued(0)
        stays = played.order("stays")
        played.go_on()
        assert await stays == [b"stays0"]
        assert played.written == ["gone0", "stays0"]
        assert played.dropped("cancelled") == 1


async def test_images_whose_deadline_passes_in_the_line_are_not_encoded() -> None:
    async with busy_scene() as played:
        late, stays = played.order("late", 2, deadline_s=0.2), played.order("stays")
        await played.queued(3)
        await asyncio.sleep(0.25)
        played.go_on()
        with pytest.raises(DeadlineExceeded, match="before the images were encoded"):
            await late
        assert await stays == [b"stays0"]
        assert played.written == ["x0", "stays0"]
        assert played.dropped("expired") == 2


async def test_an_image_that_cannot_be_encoded_fails_its_own_call_and_no_other() -> None:
    async with busy_scene() as played:
        damaged, fine = played.order("damaged", 3), played.order("fine", 4)
        await played.queued(7)
        played.go_on()
        with pytest.raises(ValueError, match="no such picture"):
            await damaged
        assert await fine == [b"fine0", b"fine1", b"fine2", b"fine3"]
        assert played.written == ["x0", "damaged0", "fine0", "fine1", "fine2", "fine3"]
        assert await played.order("next") == [b"next0"]


# --- room ---


async def refused(played: Scene, version: LoadedVersion, work: Work) -> QueueFull:
    with pytest.raises(QueueFull) as refusal:
        async with played.encoders.room(version, work):
            pass
    return refusal.value


async def test_what_does_not_fit_is_refused_whole_and_gets_a_time_to_retry() -> None:
    async with scene() as played:
        version = loaded_version(played.metrics)
        async with played.encoders.room(version, Work(15)):
            refusal = await refused(played, version, Work(6))
            assert str(refusal) == "no room for 6 images: the files of 15 are not ready yet, max_queued_rows is 16"
            assert refusal.retry_after_s > 0
            assert played.dropped("rejected") == 6
        async with played.encoders.room(version, Work(6)):
            assert version.encode_queue.rows == 6


async def test_the_patient_wait_for_room() -> None:
    async with scene() as played:
        version = loaded_version(played.metrics)

        async def patient() -> None:
            async with played.encoders.room(version, Work(4, patient=True)):
                assert version.encode_queue.rows == 4

        async with played.encoders.room(version, Work(ROOM)):
            waits = asyncio.create_task(patient())
            await asyncio.sleep(0.01)
            assert not waits.done()
            assert version.encode_queue.rows == ROOM
        await waits
        assert version.encode_queue.rows == 0


async def test_for_up_to_a_batch_some_room_is_enough_or_single_images_would_take_all_that_leaves() -> None:
    async with scene() as played:
        version = loaded_version(played.metrics)
        async with played.encoders.room(version, Work(ROOM - 1)):
            await refused(played, version, Work(5))
            async with played.encoders.room(version, Work(4)):
                await refused(played, version, Work(1))


async def test_a_model_without_room_leaves_the_others_theirs() -> None:
    async with scene() as played:
        full, empty = loaded_version(played.metrics), loaded_version(played.metrics)
        async with played.encoders.room(full, Work(ROOM)):
            await refused(played, full, Work(1))
            async with played.encoders.room(empty, Work(1)):
                assert empty.encode_queue.rows == 1


def set_pace(played: Scene, seconds: float) -> None:
    """As if so many files had taken `seconds` each."""
    for _ in range(5):
        played.encoders._pace.record(1, seconds, time.monotonic())


async def test_a_deadline_that_the_encoders_cannot_meet_is_refused_at_once() -> None:
    """Two threads of 2 s a file: by 5 s they can make four files, of which three are due then."""
    async with scene(threads=2) as played:
        version = loaded_version(played.metrics)
        set_pace(played, 2.0)
        async with (
            played.encoders.room(version, work_for_the_next(4, 3)),
            played.encoders.room(version, Work(9)),  # it has no deadline and may wait
        ):
            async with played.encoders.room(version, work_for_the_next(5)):
                assert version.encode_queue.rows == 13
            refusal = await refused(played, version, work_for_the_next(5, 2))
            assert str(refusal) == "the deadline in 5 s cannot be met: 2 images would take 7 s"
            async with played.encoders.room(version, work_for_the_next(5, 2, patient=True)):
                assert version.encode_queue.rows == 14


async def test_who_is_alone_may_always_show_the_pace() -> None:
    async with scene() as played:
        set_pace(played, 100.0)
        for _ in range(3):
            async with played.encoders.room(loaded_version(played.metrics), work_for_the_next(3)):
                assert await played.order("fast") == [b"fast0"]
        assert played.encoders._pace.seconds(1) < 50  # it has learned


async def test_the_time_to_come_back_is_that_of_the_device_where_the_device_is_slower() -> None:
    async with scene() as played:
        version = loaded_version(played.metrics, held_device)
        set_pace(played, 0.001)
        calls = [asyncio.create_task(version.batcher.submit((np.zeros((4, 4), np.float32),))) for _ in range(5)]
        await until(lambda: version.batcher.queued_rows(Priority.INTERACTIVE) == 16)
        async with played.encoders.room(version, Work(ROOM)):
            refusal = await refused(played, version, Work(1))
            assert refusal.retry_after_s == pytest.approx(4 * 0.1)  # a batch counts 0.1 s before the first is through
        version.batcher.close()
        await asyncio.gather(*calls, return_exceptions=True)


# --- device and encoders together ---


@asynccontextmanager
async def held_at_a_png() -> AsyncIterator[tuple[Scene, LoadedVersion, ImageMaker]]:
    """The only encoder is busy until the scene goes on."""
    async with busy_scene() as played:
        version = loaded_version(played.metrics)
        yield played, version, ImageMaker(played.encoders, Quotas(), Unsent(2**28, played.metrics), played.metrics)
        version.batcher.close()


def seeds(version: LoadedVersion, encoding: Encoding, count: int) -> Job:
    latents = of_range(0, count, latent_size=4)
    return Job(version, latents, NO_LABELS, Format(encoding), float("inf"), Priority.INTERACTIVE)


async def test_images_do_not_pile_up_between_a_fast_device_and_a_slow_encoder() -> None:
    async with held_at_a_png() as (played, version, maker):
        waiting = [asyncio.create_task(maker.make(seeds(version, Encoding.PNG, 4), 0, 4)) for _ in range(5)]
        await played.queued(20)
        for _ in range(3):
            with pytest.raises(QueueFull, match="the files of 20 are not ready yet"):
                await maker.make(seeds(version, Encoding.PNG, 1), 0, 1)
        assert played.metrics.registry.get_sample_value("progan_batch_rows_sum") == 20
        played.go_on()
        assert [len((await piece).files) for piece in waiting] == [4] * 5
        assert version.encode_queue.rows == 0


async def test_who_wants_pixels_does_not_wait_for_the_files_of_others() -> None:
    async with held_at_a_png() as (played, version, maker):
        files = asyncio.create_task(maker.make(seeds(version, Encoding.PNG, 16), 0, 16))
        await played.queued(16)
        lone, many = seeds(version, Encoding.RAW, 1), seeds(version, Encoding.RAW, 16)
        assert (await maker.make(lone, 0, 1)).generated.pixels.shape == (1, 4, 4, 3)
        assert (await maker.make(many, 0, 16)).generated.pixels.shape == (16, 4, 4, 3)
        played.go_on()
        assert len((await files).files) == 16


async def test_a_stream_of_files_waits_for_room_and_comes_whole() -> None:
    async with held_at_a_png() as (played, version, maker):

        async def read() -> list[Piece]:
            return [piece async for piece in maker.stream(seeds(version, Encoding.PNG, 50))]

        streams = [asyncio.create_task(read()) for _ in range(3)]
        await played.queued(20)
        assert played.metrics.registry.get_sample_value("progan_batch_rows_sum") == 20  # each stream is 8 ahead
        played.go_on()
        for stream in streams:
            pieces = await stream
            assert [piece.first for piece in pieces] == list(range(0, 50, 4))
            assert sum(len(piece.files) for piece in pieces) == 50
        assert played.dropped("rejected") == 0


async def test_files_that_took_long_once_do_not_keep_later_calls_from_showing_a_better_pace() -> None:
    """As after a pause of the whole process."""
    async with scene() as played:
        set_pace(played, 70.0)
        version = loaded_version(played.metrics)
        maker = ImageMaker(played.encoders, Quotas(), Unsent(2**28, played.metrics), played.metrics)
        for _ in range(3):
            job = replace(seeds(version, Encoding.PNG, 1), deadline=time.monotonic() + 60)
            assert len((await maker.make(job, 0, 1)).files) == 1
        assert played.encoders._pace.seconds(1) < 70
        version.batcher.close()


async def test_files_that_nobody_waits_for_are_counted_as_dropped_and_not_as_sent() -> None:
    async with held_at_a_png() as (played, version, maker):
        gone = asyncio.create_task(maker.make(seeds(version, Encoding.WEBP, 3), 0, 3))
        await played.queued(3)
        gone.cancel()
        await played.queued(0)
        assert version.encode_queue.rows == 0
        assert played.dropped("cancelled") == 3
        assert played.metrics.registry.get_sample_value("progan_rows_wasted_total", {"model": "puppet"}) == 3
        images = {"model": "puppet", "version": "1"}
        assert played.metrics.registry.get_sample_value("progan_images_total", images) is None
