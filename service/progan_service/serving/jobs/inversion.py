"""Pictures become latents: each is searched for in a task of its own, and their gradients share batches.

What checks values raises InvalidArgument with a plain word (pictures, max_evaluations, enough_db), which a protocol's
parser replaces by its field.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from progan_service.evaluation.psnr import psnr_db
from progan_service.evaluation.thumbnails import thumbnails
from progan_service.latents.inversion.search import Best, Points, Search, Values
from progan_service.serving.access.quotas import Quotas
from progan_service.serving.batching.work import Priority
from progan_service.serving.errors import DeadlineExceeded, InvalidArgument
from progan_service.serving.jobs.job import Job, Piece
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.jobs.rows import of_labels, of_rows
from progan_service.serving.jobs.unsent import Unsent
from progan_service.serving.models.version import Inverting
from progan_service.serving.watching.calls import Call
from progan_service.serving.watching.metrics import Metrics

MAX_PICTURES = 8

_DEFAULT_EVALUATIONS, _MAX_EVALUATIONS = 300, 2000
_DEFAULT_DB, _MAX_DB = 50.0, 100.0
_RESERVE_S, _RESERVE_SHARE = 0.25, 0.1  # of the time until the deadline, for the image and its way to the caller


@dataclass(frozen=True)
class Effort:
    """How long a search goes on.

    evaluations    of each picture, at most
    enough_db      the PSNR at which a picture is done
    report_every   evaluations from one report to the next; 0 for none before the end
    """

    evaluations: int
    enough_db: float
    report_every: int


def of_effort(max_evaluations: int, enough_db: float, report_every: int) -> Effort:
    """Return the effort; zero stands for a default. Raise InvalidArgument."""
    if max_evaluations > _MAX_EVALUATIONS:
        raise InvalidArgument("max_evaluations", f"is {max_evaluations}; must be at most {_MAX_EVALUATIONS}")
    if enough_db and not 1 <= enough_db <= _MAX_DB:
        raise InvalidArgument("enough_db", f"is {enough_db:g}; must be 1 to {_MAX_DB:g}")
    return Effort(max_evaluations or _DEFAULT_EVALUATIONS, enough_db or _DEFAULT_DB, report_every)


def check_pictures(count: int) -> None:
    """Raise InvalidArgument unless a request may have so many pictures."""
    if not 1 <= count <= MAX_PICTURES:
        raise InvalidArgument("pictures", f"has {count}; must have 1 to {MAX_PICTURES}")


@dataclass(frozen=True)
class Inversion:
    """Pictures whose latents a call asks for.

    image     the job of an image that is found, but for its latent and labels
    targets   uint8 [P, R, R, C]
    labels    [1 or P, K]; None to find them
    """

    image: Job
    inverting: Inverting
    targets: NDArray[np.uint8]
    labels: NDArray[np.float32] | None
    effort: Effort


@dataclass(frozen=True)
class Report:
    """How far the search for a picture is.

    end       why it has ended: enough, budget, no_gain or deadline; '' while it goes on
    psnr_db   of the image, at the end; before that of unrounded pixels
    piece     the image, at the end
    """

    picture: int
    evaluations: int
    best: Best
    psnr_db: float
    spent: "Spent"
    end: str = ""
    piece: Piece | None = None


@dataclass
class Spent:
    """Time of a search in batches of gradients: the longest wait, all computing, and the longest batch, in seconds."""

    queue_s: float = 0.0
    inference_s: float = 0.0
    longest_s: float = 0.0


class Inverter:
    """Runs inversions. Used in the event loop only."""

    def __init__(self, maker: ImageMaker, quotas: Quotas, unsent: Unsent, metrics: Metrics) -> None:
        self._maker = maker
        self._quotas = quotas
        self._unsent = unsent
        self._metrics = metrics

    async def reports(self, inversion: Inversion) -> AsyncGenerator[Report]:
        """Yield reports, the last one of each picture with its image. Late readers get the latest of each picture.

        Raise QueueFull if the pictures do not fit into memory, QuotaExceeded, or DeadlineExceeded if nothing was found.
        """
        image, pictures = inversion.image, len(inversion.targets)
        latest = _Latest()
        held_bytes = inversion.targets.nbytes + pictures * image.image_bytes
        with self._unsent.hold(image.owner, image.version.name, pictures, held_bytes):
            tasks = [asyncio.create_task(self._invert(inversion, each, latest)) for each in range(pictures)]
            for task in tasks:
                task.add_done_callback(latest.wake)
            try:
                while True:
                    over = all(task.done() for task in tasks)
                    for report in latest.taken():
                        yield report
                    for task in tasks:
                        if task.done():
                            task.result()
                    if over:
                        return
                    await latest.arrived()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _invert(self, inversion: Inversion, picture: int, latest: "_Latest") -> None:
        target = inversion.targets[picture]
        search, spent = _search(inversion, picture), Spent()
        end, reported = "", 0
        with self._counted(search):
            deadline = inversion.image.deadline
            latest_end = _latest_end(deadline)
            while search.points and not end:
                # The image may have to wait for a batch of gradients, and takes about as long as one itself.
                until = min(latest_end, deadline - 2 * spent.longest_s)
                try:
                    async with asyncio.timeout(until - time.monotonic() if until < math.inf else None):
                        values = await self._valued(inversion, search, target, spent)
                except TimeoutError:
                    end = "deadline"
                    continue
                search.tell(values)
                if 0 < inversion.effort.report_every <= search.evaluations - reported and search.points and search.best:
                    reported, best = search.evaluations, search.best
                    latest.put(Report(picture, search.evaluations, best, best.psnr_db, replace(spent)))
            if search.best is None:
                raise DeadlineExceeded("the deadline passed before anything was found")
            piece = await self._maker.make(_job(inversion, search.best), 0, 1)
            found_db = psnr_db(piece.generated.pixels, target[None])
            end = end or str(search.why)
            self._metrics.inversions.labels(end).inc()
            self._metrics.inversion_psnr.observe(found_db)
            latest.put(Report(picture, search.evaluations, search.best, found_db, spent, end, piece))

    async def _valued(self, inversion: Inversion, search: Search, target: NDArray[np.uint8], spent: Spent) -> Values:
        """Return the values of the points of a search, out of batches that others share."""
        points, image = search.points, inversion.image
        assert points is not None
        rows = len(points.latents)
        async with self._quotas.taken_in_turn(image.caller, image.quota, rows, first=not search.evaluations):
            begun = time.monotonic()
            generated = await inversion.inverting.batcher.submit(
                _inputs(points, target),
                flow=image.flow,
                caller=image.owner,
                priority=Priority.BULK,
                patient=True,
            )
        spent.longest_s = max(spent.longest_s, time.monotonic() - begun)
        spent.queue_s = max(spent.queue_s, generated.queue_s)
        spent.inference_s += generated.inference_s
        self._metrics.inversion_evaluations.inc(rows)
        return Values(generated.pixels[:, 0], generated.pixels[:, 1:])

    def note_sent(self, call: Call, inversion: Inversion, report: Report) -> None:
        """Add the image of a picture, and what it took to find it, to what is known of its call."""
        if report.piece:
            call.queue_s = max(call.queue_s, report.spent.queue_s)
            call.inference_s += report.spent.inference_s
            self._maker.note_sent(call, inversion.image, report.piece)

    @contextmanager
    def _counted(self, search: Search) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self._metrics.inversions.labels("cancelled").inc()
            raise


def _search(inversion: Inversion, picture: int) -> Search:
    target, labels, effort = inversion.targets[picture], inversion.labels, inversion.effort
    encoded = inversion.inverting.guide.encoded(thumbnails(target[None]) / np.float32(255))[0]
    given = None if labels is None else labels[picture if len(labels) > 1 else 0]
    return Search(inversion.inverting.space, encoded, given, budget=effort.evaluations, enough_db=effort.enough_db)


def _inputs(points: Points, target: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
    rows = len(points.latents)
    targets, coarseness = np.repeat(target[None], rows, axis=0), np.full(rows, points.coarseness, np.int32)
    labels = (points.labels,) if points.labels.shape[1] else ()
    return points.latents, targets, coarseness, *labels


def _job(inversion: Inversion, best: Best) -> Job:
    """Return the job of the image that was found. Nobody refuses it any more."""
    metadata = inversion.image.version.metadata
    labels = best.labels[None] if metadata.label_count else None
    return replace(
        inversion.image,
        latents=of_rows(best.latent[None], metadata.latent_size),
        labels=of_labels(labels, metadata, 1),
        pixels=True,
        begun=True,
    )


def _latest_end(deadline: float) -> float:
    """Return when a search has to end, so that its image reaches the caller in time."""
    now = time.monotonic()
    return deadline - max(_RESERVE_S, _RESERVE_SHARE * (deadline - now)) if deadline < math.inf else math.inf


@dataclass
class _Latest:
    """The latest report of each picture that nobody has taken yet."""

    _reports: dict[int, Report] = field(default_factory=dict)
    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, report: Report) -> None:
        self._reports[report.picture] = report
        self._awake.set()

    def wake(self, _: object = None) -> None:
        self._awake.set()

    def taken(self) -> Iterator[Report]:
        while self._reports:
            yield self._reports.pop(next(iter(self._reports)))

    async def arrived(self) -> None:
        """Return when there is a report, or when `wake` was called since the last time."""
        await self._awake.wait()
        self._awake.clear()
