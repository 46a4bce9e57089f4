"""Streams: how far they are made ahead of their reader."""

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.access.quotas import Quotas
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.device import Batch
from progan_service.serving.batching.queue import Priority
from progan_service.serving.batching.sizes import LargestBatch
from progan_service.serving.config import BatchingConfig
from progan_service.serving.files.encoders import Encoders
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format
from progan_service.serving.jobs.job import Job
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.jobs.rows import NO_LABELS, of_range
from progan_service.serving.jobs.unsent import Unsent
from progan_service.serving.models.gate import Gate
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.metrics import Metrics
from progan_service.store.metadata import ModelMetadata

BATCHING = BatchingConfig(max_batch_size=4, max_queued_rows=64)


async def test_a_lone_stream_lets_larger_batches_be_tried_and_then_fills_them() -> None:
    """A batch of any size takes 0.25 s. The start took 1 image a batch for the best, and 4 are."""
    rows: list[int] = []

    def run(inputs: tuple[NDArray[np.float32], ...], done: Callable[[Batch | Exception], None]) -> None:
        rows.append(len(inputs[0]))
        batch = Batch(np.zeros((len(inputs[0]), 4, 4, 3), np.uint8), seconds=0.25)
        asyncio.get_running_loop().call_later(0.002, done, batch)

    metrics, mistaken = Metrics(), LargestBatch([1, 2, 4], [{1: 0.1, 2: 0.3, 4: 0.6}] * 5)
    assert mistaken.rows == 1
    version = LoadedVersion(
        "puppet",
        1,
        ModelMetadata(4, 4, 3),
        "float32",
        0,
        DynamicBatcher([run], BATCHING, metrics, "puppet", mistaken),
        Gate(),
    )
    job = Job(version, of_range(0, 2000, 4), NO_LABELS, Format(Encoding.RAW), float("inf"), Priority.INTERACTIVE)
    encoders = Encoders(1, BATCHING, metrics)
    maker = ImageMaker(encoders, Quotas(), Unsent(2**28, metrics), metrics)
    assert [piece.first async for piece in maker.stream(job)] == list(range(2000))
    assert version.batcher.max_batch_size == 4
    assert rows[-20:].count(4) >= 15
    version.batcher.close()
    encoders.close()
