"""What every contender does: `python CONTENDER.py DEVICE VARIANT WEIGHTS.safetensors LATENTS.npy OUT.npy`.

DEVICE is cpu or gpu. The contender writes its images of the latents, prints "ready" and its library's version, and
then, for each line "BATCH SECONDS" that it reads, makes batches for that time, one at least, and prints how many images
a second these were.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Generate = Callable[[NDArray[np.float32]], NDArray[np.uint8]]  # latents [N, L] -> images [N, R, R, C]

CPUS = len(os.sched_getaffinity(0))
PRODUCT_SIDES = {"cpu": 4096, "gpu": 16384}  # of the matrices of matrix_products.py: each product takes milliseconds


def contend(version: str, build: Callable[[str, str, Path], Generate]) -> None:
    """`build` makes a network on a device, of a variant and a weights file."""
    device, variant, weights, latents_file, out = sys.argv[1:]
    generate, latents = build(device, variant, Path(weights)), np.load(latents_file)
    np.save(out, generate(latents))
    print("ready", version, flush=True)
    for line in sys.stdin:
        batch, seconds = line.split()
        print(images_per_s(generate, np.resize(latents, (int(batch), latents.shape[1])), float(seconds)), flush=True)


def images_per_s(generate: Generate, latents: NDArray[np.float32], seconds: float) -> float:
    count, elapsed, started = 0, 0.0, time.perf_counter()
    while not count or elapsed < seconds:
        count += len(generate(latents))
        elapsed = time.perf_counter() - started
    return count / elapsed
