"""How many images any scheduler can deliver in time, even one that knows all calls and the pace. An upper bound.

It lets rows be divided and batches be left at any moment, and always computes at the pace of the best batch size.
"""

import heapq
from itertools import pairwise

import numpy as np
from calls import INFINITY, Asked
from simulation import Machine

_STEP_S = 0.002
_MOST_CALLS = 6000  # for the exact bound, which takes long
_ROUNDING = 1e-6

Job = tuple[float, float, int]  # when it comes, when it is due, how long it takes: all in rows computed since the begin


def most_useful(calls: list[Asked], machine: Machine, until: float = INFINITY) -> float:
    """Return the images that can be delivered in time and by `until` at most."""
    jobs = [
        job for job in _jobs(calls, machine, until) if job[1] - job[0] >= job[2] - _ROUNDING
    ]  # others nobody can answer
    if not jobs:
        return 0.0
    divided = _divided(jobs)
    in_order = all(first[1] <= second[1] + _ROUNDING for first, second in pairwise(jobs))
    if in_order and len(jobs) <= _MOST_CALLS and any(rows > 1 for _, _, rows in jobs):
        return min(divided, _whole(jobs, int(divided) + 1))
    return divided


def _jobs(calls: list[Asked], machine: Machine, until: float) -> list[Job]:
    end = min(until, max(min(call.deadline, call.at + 60) for call in calls)) + _STEP_S
    times = np.arange(0.0, end + _STEP_S, _STEP_S)
    rows = np.concatenate([[0.0], np.cumsum([machine.images_per_s(at) * _STEP_S for at in times[:-1]])])

    def computed_by(at: float) -> float:
        return float(np.interp(at, times, rows))

    calls = sorted(calls, key=lambda call: call.at)
    return [(computed_by(call.at), computed_by(min(call.deadline, until, end)), call.rows) for call in calls]


def _divided(jobs: list[Job]) -> float:
    """Earliest deadline first is the best for rows that are useful each on its own, and may be divided."""
    waiting: list[list[float]] = []
    now, useful, coming = 0.0, 0.0, 0
    while coming < len(jobs) or waiting:
        if not waiting:
            now = max(now, jobs[coming][0])
        while coming < len(jobs) and jobs[coming][0] <= now:
            heapq.heappush(waiting, [jobs[coming][1], coming, jobs[coming][2]])
            coming += 1
        due, _, rows = waiting[0]
        if due <= now + _ROUNDING:
            heapq.heappop(waiting)
            continue
        step = min(rows, due - now, (jobs[coming][0] if coming < len(jobs) else float("inf")) - now)
        now, useful = now + step, useful + step
        waiting[0][2] -= step
        if waiting[0][2] <= _ROUNDING:
            heapq.heappop(waiting)
    return useful


def _whole(jobs: list[Job], most: int) -> float:
    """The best for whole calls whose deadlines come in the order of the calls: then first come, first served is best.

    For each number of useful rows: how early they can be done.
    """
    ends = np.full(most + 1, np.inf)
    ends[0] = 0.0
    for come, due, rows in jobs:
        with_it = np.maximum(ends[: most + 1 - rows], come) + rows
        with_it[with_it > due + _ROUNDING] = np.inf
        ends[rows:] = np.minimum(ends[rows:], with_it)
    return float(np.flatnonzero(np.isfinite(ends))[-1])
