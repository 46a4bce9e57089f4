"""A job becomes images: all at once, or piece by piece for a stream."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.access.quotas import Quotas
from progan_service.serving.batching.request import Generated
from progan_service.serving.files.encoders import Encoders
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.job import Job, Piece
from progan_service.serving.jobs.pacing import at_even_pace, changes_between_probes, probes
from progan_service.serving.jobs.unsent import Unsent
from progan_service.serving.watching import traces
from progan_service.serving.watching.calls import Call
from progan_service.serving.watching.metrics import Metrics

STREAM_MESSAGE_BYTES = 2 * 2**20  # stays below the 4 MiB that gRPC clients accept by default


class ImageMaker:
    """Runs jobs through the batches of their model and encodes the images. Used in the event loop only."""

    def __init__(self, encoders: Encoders, quotas: Quotas, unsent: Unsent, metrics: Metrics) -> None:
        self._encoders = encoders
        self._quotas = quotas
        self._unsent = unsent
        self._metrics = metrics

    async def make(self, job: Job, start: int, stop: int) -> Piece:
        """Return images start ... stop - 1 of a job. Raise what DynamicBatcher.submit and Encoders raise.

        Only the first piece of a job can be refused: later ones wait for room.
        """
        if job.format.encoding is Encoding.RAW:
            piece = await self._generated(job, start, stop, job.deadline)
        else:
            work = job.work(stop - start, patient=job.is_patient(start))
            async with self._encoders.room(job.version, work):
                pixels = await self._generated(job, start, stop, self._encoders.pixels_due(work))
                with self._wasted_if_it_fails(job, stop - start):
                    piece = await self._encoded(job, pixels)
        self._metrics.images.labels(job.version.name, str(job.version.number)).inc(stop - start)
        self._metrics.callers.count_images(job.caller, stop - start)
        return piece

    async def _generated(self, job: Job, start: int, stop: int, due: float) -> Piece:
        latents = await self._latents(job, start, stop)
        asked_at = time.monotonic()
        generated = await job.version.batcher.submit(
            (latents, *job.labels.rows(start, stop)),
            due,
            flow=job.flow,
            caller=job.owner,
            priority=job.priority,
            patient=job.is_patient(start),
        )
        return Piece(start, latents, _without_batch(generated), [], 0.0, asked_at, made_at=time.monotonic())

    async def _encoded(self, job: Job, piece: Piece) -> Piece:
        pixels = piece.generated.pixels
        files = await self._encoders.encode(
            job.work(len(pixels), patient=job.is_patient(piece.first)),
            lambda place: job.file(piece.first + place, pixels[place]),
        )
        encode_s = time.monotonic() - piece.made_at
        self._metrics.encode_duration.labels(job.format.encoding).observe(encode_s)
        generated = piece.generated if job.pixels else _without_pixels(piece.generated)
        return replace(piece, generated=generated, files=files, encode_s=encode_s)

    async def _latents(self, job: Job, start: int, stop: int) -> NDArray[np.float32]:
        """Return latents of a job. Many are made in a thread; for one batch handing over would take longer."""
        if stop - start <= job.version.batcher.max_batch_size:
            return job.latents.rows(start, stop)
        return await asyncio.to_thread(job.latents.rows, start, stop)

    @asynccontextmanager
    async def whole(self, job: Job) -> AsyncIterator[Piece]:
        """Make all images of a job at once. They must be sent within the block. Raise QueueFull if they do not fit."""
        job = await self._at_its_pace(job)
        images = job.latents.count
        with self._unsent.hold(job.owner, job.version.name, images, job.given_bytes + images * job.image_bytes):
            async with self._quotas.taken(job.caller, job.quota, images):
                made = [await self.make(job, 0, images)]
            with self._wasted_if_it_fails(job, images):
                yield made.pop()  # nothing here keeps the images while they are sent

    async def stream(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Yield the images of a job from `job.first` on, a few at a time, at most two batches ahead of the reader.

        A piece must be sent when the next one is asked for. Raise QueueFull, too, if the first one does not fit.
        """
        job = await self._at_its_pace(job)
        batcher = job.version.batcher
        step = min(batcher.max_batch_size, max(1, STREAM_MESSAGE_BYTES // job.image_bytes))
        if job.quota:
            step = min(step, job.quota.images_at_once)
        piece_bytes = step * job.image_bytes
        window: deque[asyncio.Task[Piece]] = deque()
        with self._unsent.hold(job.owner, job.version.name, step, job.given_bytes + piece_bytes) as held:
            try:
                for start in range(job.first, job.latents.count, step):
                    ahead = max(2, (batcher.max_batch_size + batcher.rows_at_once) // step)  # batches may grow
                    if window and not (len(window) < ahead and held.grow(piece_bytes)):
                        made = [await window.popleft()]
                        with self._wasted_if_it_fails(job, len(made[0].latents)):
                            yield made.pop()
                    stop = min(start + step, job.latents.count)
                    window.append(asyncio.create_task(self._in_turn(job, start, stop)))
                while window:
                    made = [await window.popleft()]
                    with self._wasted_if_it_fails(job, len(made[0].latents)):
                        yield made.pop()
            finally:
                for task in window:
                    task.cancel()
                unsent = await asyncio.gather(*window, return_exceptions=True)
                self._waste(job, sum(len(piece.latents) for piece in unsent if isinstance(piece, Piece)))

    @contextmanager
    def _wasted_if_it_fails(self, job: Job, images: int) -> Iterator[None]:
        """Count computed images as wasted if the block, in which they are encoded or sent, fails or is left early."""
        try:
            yield
        except BaseException:
            self._waste(job, images)
            raise

    def _waste(self, job: Job, images: int) -> None:
        self._metrics.rows_wasted.labels(job.version.name).inc(images)

    def note_sent(self, call: Call, job: Job, piece: Piece) -> None:
        """Add the images of a reply to what is known of their call, and trace the stages in which they were made."""
        generated, asked, made = piece.generated, piece.asked_at, piece.made_at
        images = len(piece.latents)
        if not call.images:
            waited_s = time.monotonic() - call.began
            self._metrics.first_image.labels(call.method, call.model).observe(waited_s, call.exemplar)
        call.format = job.format.encoding
        call.images += images
        call.queue_s = max(call.queue_s, generated.queue_s)
        call.inference_s += generated.inference_s
        call.encode_s += piece.encode_s
        began = max(asked, made - generated.inference_s)
        traces.stage(call, "queue", asked, asked + generated.queue_s, images=images)
        traces.stage(call, "inference", began, made, images=images, batch_rows=generated.batch_rows)
        if piece.files:
            traces.stage(call, "encode", made, made + piece.encode_s, images=images)

    async def _at_its_pace(self, job: Job) -> Job:
        """Return the job. If its frames are to have an even pace, images along the walk are made and compared first."""
        if not job.even:
            return job
        changes = changes_between_probes(job)
        async with aclosing(self.stream(probes(job))) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(changes.add, piece.generated.pixels)
        return at_even_pace(job, changes.all())

    async def _in_turn(self, job: Job, start: int, stop: int) -> Piece:
        async with self._quotas.taken_in_turn(job.caller, job.quota, stop - start, first=not job.is_patient(start)):
            return await self.make(job, start, stop)


def _without_batch(generated: Generated) -> Generated:
    """Return the images alone. As part of a batch they would keep all of it."""
    pixels = generated.pixels
    part = pixels.base is not None and len(pixels) < generated.batch_rows
    return replace(generated, pixels=pixels.copy()) if part else generated


def _without_pixels(generated: Generated) -> Generated:
    """Return the same with pixels that take no memory. The images are files now, and only the shape is needed."""
    return replace(generated, pixels=np.broadcast_to(np.uint8(0), generated.pixels.shape))
