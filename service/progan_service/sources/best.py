"""The best snapshot of a run by the SWD that was recorded at its ticks."""

from dataclasses import dataclass
from pathlib import Path

from progan_service.errors import BadInputError
from progan_service.evaluation.table import LEVEL
from progan_service.training.run.directory import CONFIG_FILE, why_no_run
from progan_service.training.run.history import read_scalars
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
        raise NoBestError(f"{run}: {why_no_run(run)}; --best chooses among the snapshots of a run")
    scalars = read_scalars(run, (_SWD, _RESOLUTION))
    swd, sizes = scalars[_SWD], scalars[_RESOLUTION]
    measured = swd.keys() & sizes.keys()
    if not measured:
        raise NoBestError(
            f"{run}: has no SWD at any tick: only ticks with --metric-images and images of 8x8 or more have it; "
            f"measure its snapshots by `progan evaluate {run}/snapshots/*.safetensors --data DIR`, and "
            "export one of them"
        )
    found = {shown: path for shown, path in snapshots(run / "snapshots").items() if shown in measured}
    if not found:
        raise NoBestError(f"{run}: has no snapshot of a tick with SWD; export the run, or another source")
    resolution = max(sizes[shown] for shown in found)
    scores = {shown: swd[shown] for shown in found if sizes[shown] == resolution}
    best = min(scores, key=lambda shown: (scores[shown], shown))
    return Best(found[best], scores[best], int(resolution), len(scores))
