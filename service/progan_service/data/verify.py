"""Reads a whole dataset and checks it: every record's checksum, and that all levels show the same images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making.pyramid import box_pyramid
from progan_service.progress import Progress

_ROUNDING = 1  # of 255: tools differ in how they round means
_SHOWN_PROBLEMS = 20


def verify_dataset(directory: Path, progress: Progress) -> Dataset:
    """Read every image of a dataset at every resolution, and return the open dataset.

    progress   called with ("Verifying", done, total) after each image
    Raises DatasetError as `Dataset.open` does, and for records that do not fit their checksums or show another image
    than the full resolution, scaled by box means as the format has it; the message names up to 20 and their number.
    """
    dataset = Dataset.open(directory)
    problems: list[str] = []
    for index in range(dataset.count):
        problems += _problems(dataset, index)
        progress("Verifying", index + 1, dataset.count)
    if problems:
        shown = problems[:_SHOWN_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        raise DatasetError("\n  ".join([f"{directory}: {len(problems)} records are wrong: make it again", *shown]))
    return dataset


def _problems(dataset: Dataset, index: int) -> list[str]:
    problems = []
    images: dict[int, NDArray[np.uint8]] = {}
    for resolution in dataset.levels:
        try:
            images[resolution] = dataset.images(np.array([index]), resolution)[0]
        except DatasetError as error:
            problems.append(str(error))
    if dataset.resolution not in images:
        return problems
    for expected in box_pyramid(images[dataset.resolution]):
        found = images.get(len(expected), expected)
        difference = np.abs(found.astype(int) - expected).max()
        if difference > _ROUNDING:
            problems.append(
                f"{dataset.levels[len(expected)].path}: record {index} shows another image than "
                f"{dataset.levels[dataset.resolution].path.name}: scaled down, they differ by up to {difference} of 255"
            )
    return problems
