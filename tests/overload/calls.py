"""Calls as an overload brings them, for the simulation and for the real server."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from progan_service.serving.batching.work import Priority

INFINITY = float("inf")

# Images a call. In the mix, half of the calls ask for one image, and half of the images are of calls of 64.
IMAGES: dict[str, Sequence[int]] = {
    "1": (1,),
    "4": (4,),
    "16": (16,),
    "64": (64,),
    "mixed": (1, 1, 1, 1, 4, 4, 16, 16, 64),
}


@dataclass(frozen=True)
class Asked:
    """A call: when it comes, for how many images, and how long it may take, in seconds."""

    at: float
    rows: int
    within_s: float = INFINITY
    caller: str = "a"
    priority: Priority = Priority.INTERACTIVE

    @property
    def deadline(self) -> float:
        return self.at + self.within_s


def poisson(
    images_per_s: float,
    seconds: float,
    sizes: Sequence[int],
    within_s: float = INFINITY,
    caller: str = "a",
    priority: Priority = Priority.INTERACTIVE,
    begin_s: float = 0.0,
) -> list[Asked]:
    """Return calls at random times, the same ones whenever the arguments are the same."""
    chance = random.Random(f"{images_per_s} {seconds} {sizes} {within_s} {caller} {begin_s}")
    calls_per_s = images_per_s * len(sizes) / sum(sizes)
    at, calls = begin_s, []
    while (at := at + chance.expovariate(calls_per_s)) < begin_s + seconds:
        calls.append(Asked(at, chance.choice(sizes), within_s, caller, priority))
    return calls


def even(
    calls_per_s: float,
    seconds: float,
    rows: int,
    within_s: float = INFINITY,
    caller: str = "a",
    priority: Priority = Priority.INTERACTIVE,
    begin_s: float = 0.0,
) -> list[Asked]:
    """Return calls at even distances."""
    times = takewhile(lambda at: at < begin_s + seconds, (begin_s + (n + 0.5) / calls_per_s for n in count()))
    return [Asked(at, rows, within_s, caller, priority) for at in times]


def together(*streams: list[Asked]) -> list[Asked]:
    return sorted((call for stream in streams for call in stream), key=lambda call: call.at)
