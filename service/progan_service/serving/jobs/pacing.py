"""An even pace for a walk: images along its path, the probes, are compared first."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from progan_service.evaluation.thumbnails import thumbnails
from progan_service.latents.walks import even_pace, probes_a_segment
from progan_service.serving.batching.work import Priority
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format
from progan_service.serving.jobs.job import Job
from progan_service.serving.jobs.walks import Frames


def probes(job: Job) -> Job:
    """Return the job of the images to be compared, for the job of a walk: with bulk priority, at a uniform pace."""
    frames = _frames(job).with_between(probes_a_segment(_frames(job).frames_between) - 1)
    return replace(
        job,
        latents=frames,
        labels=job.labels.at(frames.pace),
        format=Format(Encoding.RAW),
        priority=Priority.BULK,
        first=0,
        even=False,
        flow=object(),
    )


def at_even_pace(job: Job, changes: NDArray[np.float64]) -> Job:
    """Return the job of a walk with its frames where the image has changed by the same amount since the last one."""
    frames = _frames(job)
    each = probes_a_segment(frames.frames_between)
    pace = even_pace(changes, each, frames.count, loop=frames.loop)
    return replace(job, latents=replace(frames, pace=pace), labels=job.labels.at(pace), even=False, begun=True)


class Changes:
    """How much the image changes from each probe to the next, by thumbnails: root mean squares in levels of 255."""

    def __init__(self, job: Job) -> None:
        self._loop = _frames(job).loop
        self._first: NDArray[np.float32] | None = None
        self._last: NDArray[np.float32] | None = None
        self._found: list[NDArray[np.float64]] = []

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Take the next probes [N, H, W, C]."""
        small = thumbnails(pixels)
        if self._last is None:
            self._first = small[:1]
        else:
            small = np.concatenate([self._last, small])
        self._last = small[-1:]
        self._found.append(_rms(np.diff(small, axis=0)))

    def all(self) -> NDArray[np.float64]:
        """Return all changes [M]; in a loop the last one is that from the last probe to the first."""
        assert self._first is not None
        assert self._last is not None
        back = [_rms(self._first - self._last)] if self._loop else []
        return np.concatenate([*self._found, *back])


def _frames(job: Job) -> Frames:
    assert isinstance(job.latents, Frames)
    return job.latents


def _rms(differences: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.mean(differences.astype(np.float64) ** 2, axis=1)))
