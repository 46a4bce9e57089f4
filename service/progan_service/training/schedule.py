"""The growth schedule: which resolution, blend, batch size and learning rate at which point of a run. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from progan_service.training.config import TrainingConfig

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class Phase:
    """What one training step needs to know.

    resolution      of the stage, in pixels
    alpha           weight of this resolution against the one before: 1 once it has faded in
    batch_size      images a step
    learning_rate   of Adam
    """

    resolution: int
    alpha: float
    batch_size: int
    learning_rate: float

    @property
    def fading(self) -> bool:
        return self.alpha < 1.0


@dataclass(frozen=True)
class GrowthSchedule:
    """Stabilise a resolution, fade the next one in, and so on up; the last one runs to the end (paper, appendix A)."""

    config: TrainingConfig
    resolution: int

    def at(self, images_shown: int) -> Phase:
        """The phase of the step that follows `images_shown` real images."""
        lod = self.level_of_detail(images_shown)
        resolution = self.resolution >> math.floor(lod)
        return Phase(
            resolution,
            1.0 - (lod - math.floor(lod)),
            of_resolution(self.config.batch_sizes, resolution),
            of_resolution(self.config.learning_rates, resolution) * self._ramp(images_shown),
        )

    def stages(self, start: int, end: int) -> list[tuple[Phase, int]]:
        """The stages of the steps from `start` on, before `end`: the phase with which each is met, and its images."""
        stages = []
        while start < end:
            stop = int(min(self._end_of_stage(start), end))
            stages.append((self.at(start), stop - start))
            start = stop
        return stages

    @property
    def full_kimg(self) -> float:
        """When the final resolution has faded in."""
        return self._last_stage * (self._stable_images + self._fade_images) / 1000

    def level_of_detail(self, images_shown: int) -> float:
        """How many doublings are still missing; falls from log2(resolution / 4) to 0, fractional while fading.

        A fade starts strictly after its boundary and is over exactly at its end.
        """
        stage, into_stage = divmod(images_shown, self._stable_images + self._fade_images)
        faded = (into_stage - self._stable_images) / self._fade_images if into_stage > self._stable_images else 0.0
        return max(self._last_stage - stage - faded, 0.0)

    def _end_of_stage(self, images_shown: int) -> float:
        """The first point after `images_shown` that belongs to the next stage."""
        stage, into_stage = divmod(images_shown, self._stable_images + self._fade_images)
        if stage >= self._last_stage:
            return math.inf
        stable = into_stage <= self._stable_images and self._fade_images > 0
        end = self._stable_images + (1 if stable else self._fade_images)
        return images_shown - into_stage + end

    def _ramp(self, images_shown: int) -> float:
        """Rises from 0 to 1 over the first images of a run; the first step is not lost to it."""
        ramp_images = self.config.learning_rate_ramp_kimg * 1000
        batch = of_resolution(self.config.batch_sizes, 4)
        return min((images_shown + batch) / ramp_images, 1.0) if ramp_images else 1.0

    @property
    def _stable_images(self) -> int:
        return round(self.config.stable_kimg * 1000)

    @property
    def _fade_images(self) -> int:
        return round(self.config.fade_kimg * 1000)

    @property
    def _last_stage(self) -> int:
        return self.resolution.bit_length() - 3


def of_resolution(table: Mapping[int, Value], resolution: int) -> Value:
    """The value of a resolution, or of the next lower one that the table has."""
    return table[max(r for r in table if r <= resolution)]
