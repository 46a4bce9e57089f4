"""The growth schedule: which resolution, blend, batch size and learning rate at which point of a run. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from progan_service.config import TrainingConfig

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
            _of_resolution(self.config.batch_sizes, resolution),
            _of_resolution(self.config.learning_rates, resolution),
        )

    def level_of_detail(self, images_shown: int) -> float:
        """How many doublings are still missing; falls from log2(resolution / 4) to 0, fractional while fading.

        A fade starts strictly after its boundary and is over exactly at its end.
        """
        stable_images = round(self.config.stable_kimg * 1000)
        fade_images = round(self.config.fade_kimg * 1000)
        stage, into_stage = divmod(images_shown, stable_images + fade_images)
        faded = (into_stage - stable_images) / fade_images if into_stage > stable_images else 0.0
        return max(math.log2(self.resolution / 4) - stage - faded, 0.0)


def _of_resolution(table: Mapping[int, Value], resolution: int) -> Value:
    return table[max(r for r in table if r <= resolution)]
