"""The learning curves of runs as one picture."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from PIL import Image

from progan_service.errors import ConfigError
from progan_service.pictures.chart import Curve, Panel, Stretch, Strip, chart
from progan_service.training.config import RunConfig
from progan_service.training.run.directory import config_of_begun
from progan_service.training.run.history import Scalars, read_scalars
from progan_service.training.schedule import GrowthSchedule

_PANELS = {  # the scalars of each panel, after them those that are drawn thin
    "distance: score of real minus score of generated images": (("loss/distance",), ()),
    "loss of the discriminator": (("loss/D",), ()),
    "loss of the generator": (("loss/G",), ()),
    "SWD x 10^3, mean of all levels": (("metrics/SWDx1e3_avg",), ()),
    "MS-SSIM between generated images; thin: between real ones": (
        ("metrics/MS-SSIM", "health/ms_ssim_fakes"),
        ("metrics_reals2/MS-SSIM", "health/ms_ssim_reals"),
    ),
}
_NAMES = frozenset(chain.from_iterable(chain(*names) for names in _PANELS.values()))


def curves_of(runs: Sequence[Path]) -> Image.Image:
    """Return the curves of runs over the images shown. Raises ConfigError for a run without a tick, or for no run."""
    configs = [config_of_begun(run) for run in runs]
    histories = [read_scalars(run, _NAMES) for run in runs]
    for run, history in zip(runs, histories, strict=True):
        if not any(history.values()):
            raise ConfigError(f"{run}: has no curves yet; they begin with the first tick")
    panels = [_panel(title, *names, histories) for title, names in _PANELS.items()]
    highest = max(images for history in histories for values in history.values() for images in values)
    return chart([str(run) for run in runs], _strips(configs, highest), [panel for panel in panels if panel.curves])


def _panel(title: str, names: Sequence[str], thin: Sequence[str], histories: Sequence[Scalars]) -> Panel:
    """Return the curves of all runs. Of several names for the same thing, the first one that a run has counts."""
    curves = []
    for number, history in enumerate(histories):
        for of_these, faint in ((thin, True), (names, False)):
            values = next((history[name] for name in of_these if history[name]), None)
            if values:
                points = [(images / 1000, value) for images, value in values.items()]
                curves.append(Curve(number, points, faint))
    return Panel(title, curves)


def _strips(configs: Sequence[RunConfig], images_shown: int) -> list[Strip]:
    """Return a strip of stages for each schedule, up to these images shown, with the runs that have it."""
    runs: dict[tuple[Stretch, ...], list[int]] = {}
    for number, config in enumerate(configs):
        runs.setdefault(_stretches(config, images_shown), []).append(number)
    return [Strip(of_schedule, stretches) for stretches, of_schedule in runs.items()]


def _stretches(config: RunConfig, images_shown: int) -> tuple[Stretch, ...]:
    start, found = 0, []
    for phase, images in GrowthSchedule(config.training, config.network.resolution).stages(0, images_shown):
        size = f"{phase.resolution}x{phase.resolution}"
        found.append(Stretch(start / 1000, (start + images) / 1000, size, phase.fading))
        start += images
    return tuple(found)
