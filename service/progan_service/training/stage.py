"""A stage of growth, and a phase: what one training step takes from the schedule."""

from dataclasses import dataclass
from typing import NamedTuple


class Stage(NamedTuple):
    """A stretch of a run in which the same layers train: a resolution that fades in, or one that has faded in."""

    resolution: int
    fading: bool

    def __str__(self) -> str:
        size = f"{self.resolution}x{self.resolution}"
        return f"{size} fading in" if self.fading else size


FIRST_STAGE = Stage(4, fading=False)


@dataclass(frozen=True)
class Phase:
    """The settings of one training step.

    resolution      of the stage, in pixels
    alpha           weight of this resolution against the previous one: below 1 while it fades in
    batch_size      images per step
    learning_rate   of Adam
    """

    resolution: int
    alpha: float
    batch_size: int
    learning_rate: float

    @property
    def fading(self) -> bool:
        """Whether the resolution is still fading in."""
        return self.alpha < 1.0

    @property
    def stage(self) -> Stage:
        """The stage that this phase belongs to."""
        return Stage(self.resolution, self.fading)
