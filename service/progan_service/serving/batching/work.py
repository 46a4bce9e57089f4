"""Rows of one call that wait for a device, and parts of them. One row is one image."""

from dataclasses import dataclass
from enum import IntEnum


class Priority(IntEnum):
    """Which rows come first."""

    INTERACTIVE = 0
    BULK = 1

    @property
    def label(self) -> str:
        """Return its name in metrics."""
        return self.name.lower()


@dataclass(eq=False)
class Work:
    """Rows of one call.

    deadline, queued_at   in seconds of any one clock
    flow                  works of the same flow are served in their order, such as the pieces of a stream; None: this
                          work is a call of its own
    caller                who asked for it
    patient               it has waited for room, and nobody promised it to be in time
    model                 of whom images are wanted
    taken                 rows that are in a batch already
    """

    rows: int
    deadline: float = float("inf")
    queued_at: float = 0.0
    flow: object = None
    priority: Priority = Priority.INTERACTIVE
    caller: str = ""
    patient: bool = False
    model: str = ""
    taken: int = 0

    @property
    def waiting(self) -> int:
        """Return the number of rows that are in no batch yet."""
        return self.rows - self.taken

    @property
    def left_s(self) -> float:
        """Return the time between the arrival and the deadline, in seconds."""
        return self.deadline - self.queued_at


@dataclass(frozen=True)
class Slice:
    """Rows start ... stop - 1 of a work, all in one batch."""

    work: Work
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


def in_parts(slices: list[Slice], rows: int) -> list[list[Slice]]:
    """Return the same rows in lists of at most `rows` each."""
    parts: list[list[Slice]] = [[]]
    room = rows
    for piece in slices:
        start = piece.start
        while start < piece.stop:
            if not room:
                parts.append([])
                room = rows
            stop = min(piece.stop, start + room)
            parts[-1].append(Slice(piece.work, start, stop))
            room -= stop - start
            start = stop
    return parts


def counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def ceil_div(rows: int, batch: int) -> int:
    return -(-rows // batch)
