"""The best snapshot of a run by the SWD that was recorded at its ticks."""

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from progan_service.errors import BadInputError
from progan_service.evaluation.table import LEVEL
from progan_service.host.faults import named
from progan_service.training.run.directory import CONFIG_FILE
from progan_service.training.run.snapshot import snapshots

_SWD = f"metrics/{LEVEL}avg"
_RESOLUTION = "schedule/resolution"


class NoBestError(BadInputError):
    """A run of which no snapshot is known to be the best; the message names it and the reason."""


@dataclass(frozen=True)
class Best:
    """A snapshot with the lowest mean SWD x 10^3 of `count` snapshots of its resolution."""

    path: Path
    swd: float
    resolution: int
    count: int


def best_snapshot(run: Path) -> Best:
    """Return the best snapshot of a run: among those of its largest resolution, as SWD of other sizes does not compare.

    Raises NoBestError for what is no run, and for one without snapshots at ticks with metrics; FileError.
    """
    if not (run / CONFIG_FILE).is_file():
        raise NoBestError(f"{run}: not a training run (no {CONFIG_FILE}); --best chooses among the snapshots of one")
    ticks = _ticks(run / "tensorboard")
    measured = {shown: tick for shown, tick in ticks.items() if tick.keys() >= {_SWD, _RESOLUTION}}
    if not measured:
        raise NoBestError(
            f"{run}: has no SWD at any tick, as it was not trained with --metric-images; measure its snapshots by "
            f"`progan evaluate {run}/snapshots/*.safetensors --data DIR`, and export one of them"
        )
    found = {shown: path for shown, path in snapshots(run / "snapshots").items() if shown in measured}
    if not found:
        raise NoBestError(f"{run}: has no snapshot of a tick with SWD; export the run, or another source")
    resolution = max(measured[shown][_RESOLUTION] for shown in found)
    scores = {shown: measured[shown][_SWD] for shown in found if measured[shown][_RESOLUTION] == resolution}
    best = min(scores, key=lambda shown: (scores[shown], shown))
    return Best(found[best], scores[best], int(resolution), len(scores))


def _ticks(directory: Path) -> dict[int, dict[str, float]]:
    """Return the scalars of each tick by its images shown; of a tick that was repeated, the last ones."""
    ticks: dict[int, dict[str, float]] = {}
    with named(directory):
        for file in sorted(directory.glob("events.out.tfevents.*")):
            _read(file, ticks)
    return ticks


def _read(file: Path, ticks: dict[int, dict[str, float]]) -> None:
    """Read a file of events. One that a killed process has left ends in the middle of a record."""
    try:
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.tag in (_SWD, _RESOLUTION):
                    ticks.setdefault(event.step, {})[value.tag] = float(tf.make_ndarray(value.tensor))
    except tf.errors.DataLossError:
        pass
