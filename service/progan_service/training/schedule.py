"""The growth schedule: resolution, alpha, batch size and learning rate as pure functions of the images shown."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from progan_service.training.config import TrainingConfig
from progan_service.training.stage import Phase

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class GrowthSchedule:
    """Train a resolution, fade in the next one, and so on. The last one trains to the end of the run (appendix A).

    A run that begins above 4x4 leaves out the stages before.
    """

    config: TrainingConfig
    resolution: int

    def at(self, images_shown: int) -> Phase:
        """Return the phase of the step that follows after `images_shown` real images."""
        lod = self.level_of_detail(images_shown)
        resolution = self.resolution >> math.floor(lod)
        return Phase(
            resolution,
            1.0 - (lod - math.floor(lod)),
            of_resolution(self.config.batch_sizes, resolution),
            of_resolution(self.config.learning_rates, resolution) * self._ramp(images_shown),
        )

    def stages(self, start: int, end: int) -> list[tuple[Phase, int]]:
        """Return the stages from `start` to `end` images shown, each as its first phase and its number of images."""
        stages = []
        while start < end:
            stop = int(min(self._end_of_stage(start), end))
            stages.append((self.at(start), stop - start))
            start = stop
        return stages

    @property
    def full_kimg(self) -> float:
        """The kimg after which the final resolution has faded in."""
        return (self._last_stage - self._first_stage) * self._images_of_a_resolution / 1000

    def level_of_detail(self, images_shown: int) -> float:
        """Return the number of doublings still to come: from log2(resolution / 4) down to 0, fractional while fading.

        A fade starts strictly after its boundary and is complete exactly at its end.
        """
        stage, into_stage = self._place(images_shown)
        faded = (into_stage - self._stable_images) / self._fade_images if into_stage > self._stable_images else 0.0
        return max(self._last_stage - stage - faded, 0.0)

    def _end_of_stage(self, images_shown: int) -> float:
        """Return the first number of images shown that belongs to the next stage."""
        stage, into_stage = self._place(images_shown)
        if stage >= self._last_stage:
            return math.inf
        stable = into_stage <= self._stable_images and self._fade_images > 0
        end = self._stable_images + (1 if stable else self._fade_images)
        return images_shown - into_stage + end

    def _place(self, images_shown: int) -> tuple[int, int]:
        """Return the number of doublings before this point, and the images since the last one."""
        stage, into_stage = divmod(images_shown, self._images_of_a_resolution)
        return self._first_stage + stage, into_stage

    def _ramp(self, images_shown: int) -> float:
        """Return the factor of the learning rate. It rises to 1 over the first images, falls over the last, never 0."""
        config = self.config
        batch = of_resolution(config.batch_sizes, 4)
        rise, fall = config.learning_rate_ramp_kimg * 1000, config.learning_rate_fall_kimg * 1000
        risen = min((images_shown + batch) / rise, 1.0) if rise else 1.0
        left = max(config.total_kimg * 1000 - images_shown, 1)
        return risen * (min(left / fall, 1.0) if fall else 1.0)

    @property
    def _stable_images(self) -> int:
        return round(self.config.stable_kimg * 1000)

    @property
    def _fade_images(self) -> int:
        return round(self.config.fade_kimg * 1000)

    @property
    def _images_of_a_resolution(self) -> int:
        return self._stable_images + self._fade_images

    @property
    def _first_stage(self) -> int:
        return self.config.initial_resolution.bit_length() - 3

    @property
    def _last_stage(self) -> int:
        return self.resolution.bit_length() - 3


def of_resolution(table: Mapping[int, Value], resolution: int) -> Value:
    """Return the value of a resolution, or of the next lower resolution in the table."""
    return table[max(r for r in table if r <= resolution)]
