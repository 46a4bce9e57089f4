"""A request under way: its rows go into batches, and the images of its batches become its result."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.batching.device import Batch
from progan_service.serving.batching.work import Slice, Work


@dataclass(frozen=True)
class Generated:
    """The images [N, R, R, C] of one request, or its rows [N, ...] of another kind of batch.

    queue_s       the longest wait of a row, in seconds
    inference_s   the time of all batches that held rows of it, in seconds
    batch_rows    rows of the largest of these batches, those of other requests included
    """

    pixels: NDArray[Any]
    queue_s: float
    inference_s: float
    batch_rows: int


@dataclass(eq=False)
class Request:
    """A request: its inputs, the images that are there, and the future of its result.

    queue_s and batch_rows are written under the batcher's lock, the other fields in the event loop only.
    """

    work: Work
    inputs: tuple[NDArray[Any], ...]
    done: asyncio.Future[Generated]
    pixels: dict[int, NDArray[Any]] = field(default_factory=dict)  # by their first row
    queue_s: float = 0.0
    inference_s: float = 0.0
    batch_rows: int = 0
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = self.work.rows

    def add(self, start: int, pixels: NDArray[Any], seconds: float) -> None:
        """Take the images from row `start` on, out of a batch that took `seconds`. The last complete the result."""
        self.pixels[start] = pixels
        self.inference_s += seconds
        self.missing -= len(pixels)
        if not self.missing and not self.done.done():
            parts = [part for _, part in sorted(self.pixels.items())]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self.done.set_result(Generated(whole, self.queue_s, self.inference_s, self.batch_rows))

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def deliver(slices: list[Slice], requests: list[Request], outcome: Batch | Exception) -> None:
    """Hand the images of a batch to its requests; a failure fails these requests and no others. In the event loop."""
    if isinstance(outcome, Exception):
        for request in requests:
            request.fail(outcome)
        return
    offset = 0
    for piece, request in zip(slices, requests, strict=True):
        request.add(piece.start, outcome.pixels[offset : offset + piece.rows], outcome.seconds)
        offset += piece.rows


def gather(slices: list[Slice], requests: list[Request], size: int) -> tuple[NDArray[Any], ...]:
    """Return the rows of a batch, padded to `size` by repeating the first row."""
    gathered = []
    for column in range(len(requests[0].inputs)):
        rows = [
            request.inputs[column][piece.start : piece.stop] for piece, request in zip(slices, requests, strict=True)
        ]
        padding = size - sum(map(len, rows))
        gathered.append(np.concatenate([*rows, np.repeat(rows[0][:1], padding, axis=0)]))
    return tuple(gathered)
