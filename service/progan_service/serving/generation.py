"""A validated request becomes images: whole, or piece by piece for a stream."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.batching import Generated, Priority
from progan_service.serving.encoding import Encoding, Texts, encode, text_bytes
from progan_service.serving.loading import ReadyModel
from progan_service.serving.metrics import Metrics
from progan_service.serving.requests import Format, Labels

STREAM_MESSAGE_BYTES = 2 * 2**20  # stays below the 4 MiB that gRPC clients accept by default

_FILE_HEADER_BYTES = 1024


class Rows(Protocol):
    """The latents of a request, or the frames of a walk."""

    @property
    def count(self) -> int: ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]: ...

    def seeds(self, start: int, stop: int) -> list[int] | None: ...


@dataclass(frozen=True)
class Job:
    """What a request asks for; `deadline` in seconds of time.monotonic(). Its pieces take turns as one `caller`."""

    model: ReadyModel
    latents: Rows
    labels: Labels
    format: Format
    deadline: float
    priority: Priority
    caller: object = field(default_factory=object)

    @property
    def image_bytes(self) -> int:
        """Of one image and its latent; pixels that do not compress become a file of that size, a header and texts."""
        metadata, encoding = self.model.metadata, self.format.encoding
        header = 0 if encoding is Encoding.RAW else _FILE_HEADER_BYTES
        texts = text_bytes(model_texts(self.model)) if encoding is Encoding.PNG else 0
        return metadata.resolution**2 * metadata.channels + header + texts + 4 * metadata.latent_size

    def texts(self, start: int, stop: int) -> list[Texts]:
        """What the files of the images start ... stop - 1 say of themselves."""
        common = model_texts(self.model)
        seeds = self.latents.seeds(start, stop)
        return [common] * (stop - start) if seeds is None else [{**common, "Seed": str(seed)} for seed in seeds]

    def files(self, start: int, pixels: NDArray[np.uint8]) -> list[bytes]:
        """The images from `start` on, encoded."""
        return encode(pixels, self.format.encoding, self.format.quality, self.texts(start, start + len(pixels)))


def model_texts(model: ReadyModel) -> Texts:
    """What made an image: program and model version, and what its provenance says in text of source and licence."""
    metadata = model.metadata
    license_text = metadata.provenance.get("license")
    texts = {
        "Software": "progan",
        "Model": f"{model.name} version {model.version}",
        "Digest": metadata.digest,
        "Source": metadata.source,
        "License": license_text if isinstance(license_text, str) else "",
    }
    return {keyword: text for keyword, text in texts.items() if text}


@dataclass(frozen=True)
class Piece:
    """Consecutive images of a job: `files` holds them encoded, and is empty for RAW.

    asked_at, made_at   of time.monotonic(): when they were queued, and when their pixels were there
    """

    first: int
    latents: NDArray[np.float32]
    generated: Generated
    files: list[bytes]
    encode_s: float
    asked_at: float
    made_at: float


class ImageMaker:
    """Runs jobs through the batches of their model and encodes what comes out."""

    def __init__(self, max_batch_size: int, encoders: Executor, metrics: Metrics) -> None:
        self._max_batch_size = max_batch_size
        self._encoders = encoders
        self._metrics = metrics

    async def make(self, job: Job, start: int, stop: int) -> Piece:
        """Images start ... stop - 1 of a job. Raises what DynamicBatcher.submit raises.

        A job is refused at its first piece or not at all: later ones wait for room in the queue.
        """
        latents = await self._latents(job, start, stop)
        asked_at = time.monotonic()
        generated = await job.model.batcher.submit(
            (latents, *job.labels.rows(start, stop)),
            job.deadline,
            caller=job.caller,
            priority=job.priority,
            patient=start > 0,
        )
        made_at = time.monotonic()
        self._metrics.images.labels(job.model.name, str(job.model.version)).inc(len(latents))
        if job.format.encoding is Encoding.RAW:
            return Piece(start, latents, generated, [], 0.0, asked_at, made_at)
        files = await asyncio.get_running_loop().run_in_executor(self._encoders, job.files, start, generated.pixels)
        encode_s = time.monotonic() - made_at
        self._metrics.encode_duration.labels(job.format.encoding).observe(encode_s)
        return Piece(start, latents, generated, files, encode_s, asked_at, made_at)

    async def _latents(self, job: Job, start: int, stop: int) -> NDArray[np.float32]:
        """A batch of them is made sooner than handed to a thread; many would hold up the event loop."""
        if stop - start <= self._max_batch_size:
            return job.latents.rows(start, stop)
        return await asyncio.get_running_loop().run_in_executor(self._encoders, job.latents.rows, start, stop)

    async def stream(self, job: Job) -> AsyncGenerator[Piece, None]:
        """All images of a job, a few at a time; no more than two batches ahead of the reader."""
        step = min(self._max_batch_size, max(1, STREAM_MESSAGE_BYTES // job.image_bytes))
        ahead = max(2, 2 * self._max_batch_size // step)
        window: deque[asyncio.Task[Piece]] = deque()
        try:
            for start in range(0, job.latents.count, step):
                stop = min(start + step, job.latents.count)
                window.append(asyncio.create_task(self.make(job, start, stop)))
                if len(window) == ahead:
                    yield await window.popleft()
            while window:
                yield await window.popleft()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)
