"""When a run is ruined: nearly all of its steps are skipped, because their gradients are not finite. Pure.

A tick is lost when at least nine of ten steps of a network were skipped in it. A lost tick saves neither checkpoint nor
snapshot, so those from before it stay. A run ends when LOST_TICKS in a row were lost, or the last tick before its end.
Single steps that are skipped do no harm.
"""

from collections.abc import Mapping

from progan_service.errors import BadInputError

LOST_TICKS = 3
LOST_SHARE = 0.9  # of the steps of a tick


class RuinedRunError(BadInputError):
    """A run that learns nothing any more."""


class SkippedSteps:
    """Counts the steps that were skipped since the last tick, and the lost ticks in a row.

    since   images shown before the skipped steps began; None if the last step was taken and the last tick not lost
    """

    def __init__(self) -> None:
        self._steps = 0
        self._skipped = {"D_skipped": 0.0, "G_skipped": 0.0}
        self._lost_ticks = 0
        self.since: int | None = None

    def add(self, losses: Mapping[str, float], images_before: int) -> None:
        """Count a step, which began after that many images."""
        self._steps += 1
        for name in self._skipped:
            self._skipped[name] += float(losses[name])
        if any(losses[name] for name in self._skipped):
            self.since = images_before if self.since is None else self.since
        elif not self._lost_ticks:
            self.since = None

    @property
    def losing(self) -> bool:
        """Whether nearly all steps since the last tick were skipped, or the last tick was lost and none followed."""
        if not self._steps:
            return self._lost_ticks > 0
        return max(self._skipped.values()) >= LOST_SHARE * self._steps

    def tick(self) -> bool:
        """End a tick. Return whether it was lost."""
        lost = self.losing
        self._lost_ticks = self._lost_ticks + 1 if lost else 0
        self._steps, self._skipped = 0, dict.fromkeys(self._skipped, 0.0)
        return lost

    @property
    def ruined(self) -> bool:
        """Whether enough ticks in a row were lost to end the run."""
        return self._lost_ticks >= LOST_TICKS
