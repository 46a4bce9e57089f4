"""Warnings of a run that is going wrong. Pure."""

from collections.abc import Mapping
from statistics import median

from progan_service.training.stage import Stage

LEAST_VARIETY = 0.5  # relative to that of the reals
LARGEST_GAP = 10.0  # relative to the median gap of the stage
USUAL_AFTER = 3  # ticks of a stage before its median gap counts
MOST_SKIPPED = 0.1  # of the steps of a tick


class CollapseGuard:
    """Watches the ticks of a run.

    variety     1 - MS-SSIM: falls when the generator begins to repeat itself
    score gap   mean score of reals minus mean score of fakes: grows without bound when training diverges
    """

    def __init__(self) -> None:
        self._stage: Stage | None = None
        self._gaps: list[float] = []

    def warnings(
        self, stage: Stage, losses: Mapping[str, float], ms_ssim_fakes: float, ms_ssim_reals: float
    ) -> list[str]:
        """Return the warnings of one tick. `losses` are the means over its steps, by name."""
        if stage != self._stage:
            self._stage, self._gaps = stage, []
        gap = abs(losses["distance"])
        usual = median(self._gaps) if len(self._gaps) >= USUAL_AFTER else None
        self._gaps.append(gap)
        found = []
        if 1.0 - ms_ssim_fakes < LEAST_VARIETY * (1.0 - ms_ssim_reals):
            found.append(
                f"the generator repeats itself: MS-SSIM {ms_ssim_fakes:.3f} between its images, "
                f"{ms_ssim_reals:.3f} between real ones"
            )
        if usual is not None and gap > LARGEST_GAP * usual:
            found.append(f"the discriminator runs away: score gap {gap:.1f}, usual in this stage {usual:.1f}")
        for network, name in (("discriminator", "D_skipped"), ("generator", "G_skipped")):
            if losses[name] > MOST_SKIPPED:
                found.append(f"{losses[name]:.0%} of the {network}'s steps were skipped: gradients not finite")
        return found
