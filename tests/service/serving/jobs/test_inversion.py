"""Searches for latents: what ends them beside what they find."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.latents.inversion.guide import Guide
from progan_service.latents.inversion.search import Space
from progan_service.serving.access.quotas import Quotas
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch
from progan_service.serving.batching.work import Priority
from progan_service.serving.config import BatchingConfig
from progan_service.serving.errors import DeadlineExceeded
from progan_service.serving.files.encoders import Encoders
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format
from progan_service.serving.jobs.inversion import Inversion, Inverter, Report, of_effort
from progan_service.serving.jobs.job import Job
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.jobs.rows import NO_LABELS, of_range
from progan_service.serving.jobs.unsent import Unsent
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.version import Inverting, LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.metadata import ModelMetadata

BATCHING = BatchingConfig(max_batch_size=4)
METADATA = ModelMetadata(4, 4, 3)
GUIDE = Guide(np.zeros(48, np.float32), np.zeros((48, 4), np.float32), np.eye(4, dtype=np.float32), 0.5)

Done = Callable[[Batch | Exception], None]


class Device:
    """Finds each point better than the last one, and hangs after some batches of gradients. The first takes no time."""

    def __init__(self, answers: int, takes_s: float = 0.0) -> None:
        self.answers, self.takes_s = answers, takes_s
        self.rows: list[int] = []

    def images(self, inputs: tuple[NDArray[np.float32], ...], done: Done) -> None:
        batch = Batch(np.zeros((len(inputs[0]), 4, 4, 3), np.uint8), seconds=0.25)
        asyncio.get_running_loop().call_soon(done, batch)

    def gradients(self, inputs: tuple[NDArray[np.float32], ...], done: Done) -> None:
        latents, _, _ = inputs
        self.rows.append(len(latents))
        if len(self.rows) <= self.answers:
            losses = 1.0 / (1 + len(self.rows)) * np.ones((len(latents), 1))
            values = np.concatenate([losses, np.eye(4)[: len(latents)]], axis=1).astype(np.float32)
            takes_s = self.takes_s if len(self.rows) > 1 else 0
            asyncio.get_running_loop().call_later(takes_s, done, Batch(values, seconds=0.5))


@asynccontextmanager
async def reporting(device: Device, *, within_s: float, pictures: int = 1) -> AsyncIterator[AsyncIterator[Report]]:
    metrics = Metrics()
    inverting = Inverting(GUIDE, Space.of(GUIDE, 4), DynamicBatcher([device.gradients], BATCHING, metrics, "puppet"))
    batcher = DynamicBatcher([device.images], BATCHING, metrics, "puppet")
    version = LoadedVersion("puppet", 1, METADATA, "float32", 0, batcher, Gate(), inverting=inverting)
    deadline = time.monotonic() + within_s
    image = Job(version, of_range(0, 1, 4), NO_LABELS, Format(Encoding.RAW), deadline, Priority.INTERACTIVE)
    targets = np.zeros((pictures, 4, 4, 3), np.uint8)
    encoders = Encoders(1, BATCHING, metrics)
    unsent = Unsent(2**20, metrics)
    maker = ImageMaker(encoders, Quotas(), unsent, metrics)
    inverter = Inverter(maker, Quotas(), unsent, metrics)
    yield inverter.reports(Inversion(image, inverting, targets, None, of_effort(0, 0, 0)))
    version.close()
    encoders.close()
    assert unsent.bytes == 0


async def test_the_deadline_ends_it_with_the_best_so_far() -> None:
    device = Device(answers=3)
    async with reporting(device, within_s=0.6) as reports:
        (report,) = [report async for report in reports]
    assert (report.end, report.evaluations) == ("deadline", 3)
    assert report.best.loss == 0.25
    assert report.psnr_db == 99  # of a black picture and a black image
    assert report.piece is not None
    assert report.spent.inference_s == 1.5


async def test_a_slow_network_has_time_for_a_batch_on_its_way_and_for_the_image() -> None:
    async with reporting(Device(answers=9, takes_s=0.6), within_s=2) as reports:
        (report,) = [report async for report in reports]
    assert (report.end, report.evaluations) == ("deadline", 2)  # a third one would end after 1.2 s, an image at 2.4


async def test_a_deadline_before_anything_was_found_is_an_error() -> None:
    async with reporting(Device(answers=0), within_s=0.4) as reports:
        with pytest.raises(DeadlineExceeded, match="^the deadline passed before anything was found$"):
            _ = [report async for report in reports]


async def test_pictures_share_batches() -> None:
    device = Device(answers=8)
    async with reporting(device, within_s=0.6, pictures=4) as reports:
        found = [report async for report in reports]
    assert sorted(report.picture for report in found) == [0, 1, 2, 3]
    assert max(device.rows) >= 3
