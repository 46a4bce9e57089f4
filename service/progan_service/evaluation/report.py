"""SWD and MS-SSIM of a generator's images, beside the noise floor.

The noise floor is the distance between two samples of the same reals with different patches. No generator can be
expected to come closer.
"""

from collections.abc import Iterable, Iterator
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
from progan_service.evaluation.table import LEVEL, table
from progan_service.progress import Progress

Batches = Iterable[NDArray[np.uint8]]
"""Batches of images uint8 [N, R, R, C] with C = 1 or 3; N may vary. Read once, and only as far as needed."""

NOISE_FLOOR = "Reals2 (noise floor)"

_REALS, _REALS_AGAIN, _FAKES = 0, 1, 2  # the patch draws of the three sets


@dataclass(frozen=True)
class Scores:
    """The figures of one set of images, measured against the reals."""

    swd: dict[int, float]  # x 10^3, by resolution of the level, largest first; lower is better
    ms_ssim: float  # mean over pairs within the set; best when equal to that of the reals

    @property
    def swd_mean(self) -> float:
        """The mean SWD over the levels."""
        return sum(self.swd.values()) / len(self.swd)

    def columns(self) -> dict[str, float]:
        """Return every figure under its name in the literature."""
        levels = {f"{LEVEL}{resolution}": distance for resolution, distance in self.swd.items()}
        return {**levels, f"{LEVEL}avg": self.swd_mean, "MS-SSIM": self.ms_ssim}


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`. Compare figures of equal image counts only: the noise floor falls with the count."""

    resolution: int
    image_count: int  # of each set; MS-SSIM leaves out the last of an odd number
    seed: int
    reals: Scores  # the second sample of the reals against the first: the noise floor
    fakes: Scores

    def table(self) -> str:
        """Return a plain-text table of two rows: the noise floor and the fakes."""
        rows = [(NOISE_FLOOR, self.reals.columns()), ("Fakes", self.fakes.columns())]
        return table(f"{self.image_count} images", rows)


class Reference:
    """The reals, measured once. Any number of sets of fakes can be evaluated against them.

    While open, it takes 75 KB per image and level in temporary files, and twice that during a measurement.
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
        """Measure two samples of the reals.

        Args:
            reals: the sample that fakes are compared with.
            reals_again: the sample of the noise floor; the same images or others.
            image_count: images to take of each.
            seed: of all random draws, in [0, 2^64).
            scratch: the directory of the temporary files; None takes the system's default.
            progress: called while images are read and directions compared.

        Raises:
            ImageSetError: fewer images than `image_count`, an `image_count` below 2, a seed outside [0, 2^64), or
                images that are not uint8, square, of one shape and at least 7x7.
            FileError: the temporary files cannot be written.
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
        """Height and width of the images in pixels."""
        return self._shape[0]

    def evaluate(self, fakes: Batches, *, progress: Progress = lambda stage, done, total: None) -> Evaluation:
        """Measure as many fakes as there are reals, and compare both.

        Raises:
            ImageSetError: too few fakes, or fakes of another shape.
            FileError: the temporary files cannot be written.
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
    """Measure `image_count` images of each set. `Reference` evaluates several sets of fakes against the same reals.

    Raises:
        ImageSetError: as `Reference` and `Reference.evaluate`.
        FileError: the temporary files cannot be written.
    """
    with Reference(
        reals, reals_again, image_count=image_count, seed=seed, scratch=scratch, progress=progress
    ) as reference:
        return reference.evaluate(fakes, progress=progress)


def _exactly(count: int, name: str, batches: Batches, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """Yield the first `count` images, in batches."""
    taken = 0
    for batch in batches:
        wanted = batch[: count - taken]
        taken += len(wanted)
        yield wanted
        progress(name, taken, count)
        if taken == count:
            return
    raise ImageSetError(f"{name}: {taken} images, {count} are needed")
