"""How good the fakes are: SWD and MS-SSIM of fakes beside those of a second look at the reals, the noise floor.

Two looks at the same reals, with different patches, differ too: no generator can do better than that row.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progan_service.evaluation.images import ImageSetError
from progan_service.evaluation.ms_ssim import PairSimilarity
from progan_service.evaluation.swd import PatchSet, sliced_wasserstein

Batches = Iterable[NDArray[np.uint8]]
"""Batches [N, R, R, C] of any sizes, 0 to 255, C 1 or 3; read once, and no further than needed."""

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) now and then: images taken in, then directions compared."""

_REALS, _REALS_AGAIN, _FAKES = 0, 1, 2  # the patch draws of the three sets


@dataclass(frozen=True)
class Scores:
    """One set of images, measured against the reals."""

    swd: dict[int, float]  # x 10^3, by resolution of the level, finest first; lower is better
    ms_ssim: float  # mean over pairs within the set; good where it is that of the reals

    @property
    def swd_mean(self) -> float:
        """The mean over the levels."""
        return sum(self.swd.values()) / len(self.swd)

    def columns(self) -> dict[str, float]:
        """Every figure under the name it has in the literature."""
        levels = {f"SWDx1e3_{resolution}": distance for resolution, distance in self.swd.items()}
        return {**levels, "SWDx1e3_avg": self.swd_mean, "MS-SSIM": self.ms_ssim}


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. Figures of different image counts do not compare: the noise floor falls with the count."""

    resolution: int
    image_count: int  # of each set; MS-SSIM leaves the last of an odd number out
    seed: int
    reals: Scores  # the second look at the reals, against the first
    fakes: Scores

    def table(self) -> str:
        """Two rows, the noise floor and the fakes, as plain text."""
        rows = {"Reals2 (noise floor)": self.reals.columns(), "Fakes": self.fakes.columns()}
        label_width = max(map(len, rows))
        names = list(self.reals.columns())
        lines = [f"{f'{self.image_count} images':{label_width}}" + "".join(f"  {name}" for name in names)]
        for label, columns in rows.items():
            cells = (f"{columns[name]:{len(name) + 2}.{4 if name == 'MS-SSIM' else 2}f}" for name in names)
            lines.append(f"{label:{label_width}}" + "".join(cells))
        return "\n".join(lines)

    def to_json(self) -> str:
        """The figures of `table` in full precision, by row and column."""
        what = {"resolution": self.resolution, "image_count": self.image_count, "seed": self.seed}
        figures = {"reals2": self.reals.columns(), "fakes": self.fakes.columns()}
        return json.dumps({**what, **figures}, indent=2) + "\n"


class Reference:
    """The reals, measured once: any number of sets of fakes can be evaluated against them.

    Holds 75 KB an image and level in temporary files while it is open, and twice that while it is made or used.
    """

    def __init__(
        self,
        reals: Batches,
        reals_again: Batches,
        *,
        image_count: int,
        seed: int,
        scratch: Path | None = None,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        """Measure `image_count` images of each; `reals_again` may be the same ones or others.

        Every draw is a function of `seed`. `scratch` is where temporary files lie, by default the system's place.

        Raises:
            ImageSetError: fewer images than `image_count`, an `image_count` below 2, a seed outside [0, 2^64), or
                images that are not uint8, square, of one shape and at least 7x7.
            OSError: the temporary files cannot be written.
        """
        if image_count < 2:
            raise ImageSetError(f"image_count is {image_count}: an evaluation needs at least 2 images")
        self.image_count = image_count
        self.seed = seed
        self._scratch = scratch
        with ExitStack() as on_error:
            self._reals = on_error.enter_context(self._patches(_REALS))
            for batch in _exactly(image_count, "Reals", reals, progress):
                self._reals.add(batch)
            self._shape: tuple[int, ...] = batch.shape[1:]
            self.scores = self._score("Reals2", _REALS_AGAIN, reals_again, progress)
            on_error.pop_all()

    @property
    def resolution(self) -> int:
        """Height and width of the images."""
        return self._shape[0]

    def evaluate(self, fakes: Batches, *, progress: Progress = lambda stage, done, total: None) -> Evaluation:
        """Measure as many fakes as there are reals, and compare.

        Raises:
            ImageSetError: too few fakes, or fakes of another shape.
            OSError: the temporary files cannot be written.
        """
        scores = self._score("Fakes", _FAKES, fakes, progress)
        return Evaluation(self.resolution, self.image_count, self.seed, self.scores, scores)

    def close(self) -> None:
        """Remove the temporary files."""
        self._reals.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _score(self, name: str, draw: int, batches: Batches, progress: Progress) -> Scores:
        similarity = PairSimilarity()
        with self._patches(draw) as patches:
            for batch in _exactly(self.image_count, name, batches, progress):
                if batch.shape[1:] != self._shape:
                    raise ImageSetError(f"{name}: images are {list(batch.shape[1:])}, the reals {list(self._shape)}")
                patches.add(batch)
                similarity.add(batch)
            swd = sliced_wasserstein(
                self._reals, patches, seed=self.seed, progress=lambda done, total: progress(f"SWD {name}", done, total)
            )
        return Scores(swd, similarity.mean())

    def _patches(self, draw: int) -> PatchSet:
        return PatchSet(seed=self.seed, draw=draw, scratch=self._scratch)


def evaluate(
    reals: Batches,
    reals_again: Batches,
    fakes: Batches,
    *,
    image_count: int,
    seed: int,
    scratch: Path | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Evaluation:
    """Measure `image_count` images of each; see `Reference`, which evaluates more than one set of fakes.

    Raises:
        ImageSetError: what `Reference` and `Reference.evaluate` refuse.
        OSError: the temporary files cannot be written.
    """
    with Reference(
        reals, reals_again, image_count=image_count, seed=seed, scratch=scratch, progress=progress
    ) as reference:
        return reference.evaluate(fakes, progress=progress)


def _exactly(count: int, name: str, batches: Batches, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """The first `count` images."""
    taken = 0
    for batch in batches:
        wanted = batch[: count - taken]
        taken += len(wanted)
        yield wanted
        progress(name, taken, count)
        if taken == count:
            return
    raise ImageSetError(f"{name}: {taken} images, {count} are needed")
