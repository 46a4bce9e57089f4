"""A validated request becomes images: whole, or piece by piece for a stream."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from progan_service.serving.batching import Generated, Priority, Work
from progan_service.serving.encoders import Encoders
from progan_service.serving.encoding import Encoding, encode, text_bytes, text_chunks
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
        texts = text_bytes(self.model.imprint) if encoding is Encoding.PNG else 0
        return metadata.resolution**2 * metadata.channels + header + texts + 4 * metadata.latent_size

    def work(self, rows: int) -> Work:
        return Work(rows, self.deadline, time.monotonic(), self.caller, self.priority)

    def file(self, index: int, image: NDArray[np.uint8]) -> bytes:
        """The image of this index, encoded."""
        texts = self._texts(index) if self.format.encoding is Encoding.PNG else None
        return encode(image, self.format.encoding, self.format.quality, texts)

    def _texts(self, index: int) -> PngInfo:
        seeds = self.latents.seeds(index, index + 1)
        return text_chunks({"Seed": str(seeds[0])}, after=self.model.imprint) if seeds else self.model.imprint


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

    def __init__(self, max_batch_size: int, encoders: Encoders, metrics: Metrics) -> None:
        self._max_batch_size = max_batch_size
        self._encoders = encoders
        self._metrics = metrics

    async def make(self, job: Job, start: int, stop: int) -> Piece:
        """Images start ... stop - 1 of a job. Raises what DynamicBatcher.submit and Encoders raise.

        A job is refused at its first piece or not at all: later ones wait for room.
        """
        if job.format.encoding is Encoding.RAW:
            piece = await self._generated(job, start, stop)
        else:
            async with self._encoders.room(job.model, job.work(stop - start), patient=start > 0):
                piece = await self._encoded(job, await self._generated(job, start, stop))
        self._metrics.images.labels(job.model.name, str(job.model.version)).inc(stop - start)
        return piece

    async def _generated(self, job: Job, start: int, stop: int) -> Piece:
        latents = await self._latents(job, start, stop)
        asked_at = time.monotonic()
        generated = await job.model.batcher.submit(
            (latents, *job.labels.rows(start, stop)),
            job.deadline,
            caller=job.caller,
            priority=job.priority,
            patient=start > 0,
        )
        return Piece(start, latents, generated, [], 0.0, asked_at, made_at=time.monotonic())

    async def _encoded(self, job: Job, piece: Piece) -> Piece:
        pixels = piece.generated.pixels
        files = await self._encoders.encode(
            job.work(len(pixels)), lambda place: job.file(piece.first + place, pixels[place])
        )
        encode_s = time.monotonic() - piece.made_at
        self._metrics.encode_duration.labels(job.format.encoding).observe(encode_s)
        return replace(piece, files=files, encode_s=encode_s)

    async def _latents(self, job: Job, start: int, stop: int) -> NDArray[np.float32]:
        """A batch of them is made sooner than handed to a thread; many would hold up the event loop."""
        if stop - start <= self._max_batch_size:
            return job.latents.rows(start, stop)
        return await asyncio.to_thread(job.latents.rows, start, stop)

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
