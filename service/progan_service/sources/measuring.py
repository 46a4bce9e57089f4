"""Measures generators against a dataset: those of one size against the same real images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from progan_service.data.dataset import Dataset
from progan_service.evaluation.features import Extract, Features, compare, noted
from progan_service.evaluation.measure import distinct_reals, fake_inputs, measure_reals
from progan_service.evaluation.report import Reference
from progan_service.progress import Progress
from progan_service.sources.fakes import Fakes

Figures = Mapping[str, float]  # by column


@dataclass(frozen=True)
class Result:
    """The figures of a source, and those of the real images of its size: the noise floor."""

    source: Path
    fakes: Fakes
    noise_floor: Figures
    figures: Figures

    @property
    def kind(self) -> str:
        """Name the real images that it is measured against."""
        size = f"{self.fakes.resolution}x{self.fakes.resolution}"
        return f"{size} mirrored" if self.fakes.mirror else size


def measure(
    dataset: Dataset,
    fakes: Mapping[Path, Fakes],
    *,
    image_count: int,
    seed: int,
    extract: Extract | None,
    progress: Progress,
) -> list[Result]:
    """Measure sources with `image_count` images each; those of one size come one after the other.

    extract   gives images features; None leaves out the figures that need them
    """
    results = []
    for resolution, mirror in dict.fromkeys((found.resolution, found.mirror) for found in fakes.values()):
        of_kind = {source: found for source, found in fakes.items() if _kind(found) == (resolution, mirror)}
        with measure_reals(
            dataset, resolution, image_count=image_count, seed=seed, mirror=mirror, progress=progress
        ) as reals:
            real_features = None
            if extract:
                real_features = RealFeatures(dataset, resolution, mirror, image_count, seed, extract, progress)
            for source, found in of_kind.items():
                inputs = fake_inputs(dataset, found.latent_size, found.label_size, count=image_count, seed=seed)
                results.append(_result(source, found, inputs, reals, real_features, progress))
    return results


class RealFeatures:
    """The features of real images, each of which counts once: as many as are asked for, or all.

    noise_floor   the figures of as many others against them; empty if the dataset has too few
    """

    def __init__(
        self,
        dataset: Dataset,
        resolution: int,
        mirror: bool,
        image_count: int,
        seed: int,
        extract: Extract,
        progress: Progress,
    ) -> None:
        self.extract = extract
        count = min(image_count, dataset.count)

        def features(first: int, stage: str) -> Features:
            found: list[Features] = []
            batches = distinct_reals(dataset, resolution, first=first, count=count, seed=seed, mirror=mirror)
            for _ in noted(batches, extract, found):
                progress(stage, sum(map(len, found)), count)
            return np.concatenate(found)

        self._features = features(0, "Features Reals")
        self.noise_floor: dict[str, float] = {}
        if dataset.count >= 2 * count:
            self.noise_floor = self.figures(features(count, "Features Reals2"))

    def figures(self, features: Features) -> dict[str, float]:
        """Return the figures of other images."""
        return compare(self._features, features).columns()


def _kind(fakes: Fakes) -> tuple[int, bool]:
    return fakes.resolution, fakes.mirror


def _result(
    source: Path,
    fakes: Fakes,
    inputs: tuple[np.ndarray, np.ndarray],
    reals: Reference,
    real_features: RealFeatures | None,
    progress: Progress,
) -> Result:
    batches = fakes.draw(*inputs)
    features: list[Features] = []
    if real_features:
        batches = noted(batches, real_features.extract, features)
    evaluation = reals.evaluate(batches, progress=progress)
    noise_floor, figures = evaluation.reals.columns(), evaluation.fakes.columns()
    if real_features:
        noise_floor |= real_features.noise_floor
        figures |= real_features.figures(np.concatenate(features))
    return Result(source, fakes, noise_floor, figures)
