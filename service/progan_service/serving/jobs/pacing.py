"""An even pace for a walk: images along its path, the probes, are compared first."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from progan_service.evaluation.changes import Changes
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


def changes_between_probes(job: Job) -> Changes:
    """Return what measures the changes from probe to probe, for the job of a walk."""
    return Changes(loop=_frames(job).loop)


def at_even_pace(job: Job, changes: NDArray[np.float64]) -> Job:
    """Return the job of a walk with its frames where the image has changed by the same amount since the last one."""
    frames = _frames(job)
    each = probes_a_segment(frames.frames_between)
    pace = even_pace(changes, each, frames.count, loop=frames.loop)
    return replace(job, latents=replace(frames, pace=pace), labels=job.labels.at(pace), even=False, begun=True)


def _frames(job: Job) -> Frames:
    assert isinstance(job.latents, Frames)
    return job.latents
