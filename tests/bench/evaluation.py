"""Seconds and peak memory of an evaluation: of reals and noise floor, and of fakes. All images are noise.

`evaluation.py COUNT RESOLUTION` measures other sizes. From 2,048 images on, memory does not grow with the count.
"""

import resource
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from results import Row, publish

from progan_service.evaluation.report import Reference

BATCH = 64


def noise(seed: int, count: int, resolution: int) -> Iterator[NDArray[np.uint8]]:
    random = np.random.default_rng(seed)
    for _ in range(0, count, BATCH):
        yield random.integers(0, 256, (BATCH, resolution, resolution, 3), np.uint8)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(count: int = 2048, resolution: int = 64) -> None:
    reals, reals_again, fakes = (noise(seed, count, resolution) for seed in range(3))
    before, started = peak_mib(), time.monotonic()
    with Reference(reals, reals_again, image_count=count, seed=0) as reference:
        reference_s = time.monotonic() - started
        reference.evaluate(fakes)
    fakes_s = time.monotonic() - started - reference_s
    images = f"{count} images {resolution}x{resolution}"
    publish(
        "evaluation",
        [
            Row("reals and noise floor", reference_s, "s", images),
            Row("fakes", fakes_s, "s", images),
            Row("peak memory", peak_mib(), "MiB", f"{before:.0f} MiB before the evaluation"),
        ],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
