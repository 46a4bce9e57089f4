"""How well and how fast latents are found, and what interactive calls feel of it.

    python tests/bench/inversion.py [STORE] [PHOTOS]

STORE is a model store (default: the bundled one), PHOTOS a directory of photographs (default: none).
"""

import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from results import Row, publish
from servers import progan

from progan_client import Client, Inversion
from progan_service.store.bundled import BUNDLED_STORE

FIRST_SEED, IMAGES, AT_ONCE, BUDGET = 3000, 20, 4, 400
PHOTOS = 10
CALLS_S = 10.0


def main() -> None:
    store = Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED_STORE
    with progan(store) as server, Client(server.target) as client:
        rows = found_again(client)
        if len(sys.argv) > 2:
            rows += of_photographs(client, sorted(Path(sys.argv[2]).glob("**/*.jpg")))
        publish("inversion", [*rows, *beside_interactive(client)])


def found_again(client: Client) -> list[Row]:
    """Generated images must be found again."""
    started = time.perf_counter()
    found = [
        client.invert(list(client.generate(seed=seed, count=AT_ONCE)), max_evaluations=BUDGET)
        for seed in range(FIRST_SEED, FIRST_SEED + IMAGES, AT_ONCE)
    ]
    seconds = time.perf_counter() - started
    psnr, evaluations = joined(found)
    return [
        Row("generated images, median", statistics.median(psnr), "dB", f"{IMAGES} of seeds from {FIRST_SEED} on"),
        Row("generated images, worst", min(psnr), "dB"),
        Row("generated images at 45 dB or more", 100 * float(np.mean(np.array(psnr) >= 45)), "%"),
        Row("evaluations, median", statistics.median(evaluations), "", f"budget {BUDGET}"),
        Row("evaluations, most", max(evaluations), ""),
        Row("an image", seconds / IMAGES, "s", f"{AT_ONCE} at a time"),
    ]


def of_photographs(client: Client, files: list[Path]) -> list[Row]:
    chosen = files[:: max(1, len(files) // PHOTOS)][:PHOTOS]
    psnr, evaluations = joined([client.invert(chosen[start : start + 5]) for start in range(0, len(chosen), 5)])
    return [
        Row("photographs, median", statistics.median(psnr), "dB", f"{len(chosen)} of {len(files)}"),
        Row("photographs, worst", min(psnr), "dB"),
        Row("photographs, evaluations, median", statistics.median(evaluations), ""),
    ]


def joined(found: list[Inversion]) -> tuple[list[float], list[int]]:
    return [db for each in found for db in each.psnr_db], [n for each in found for n in each.evaluations]


def beside_interactive(client: Client) -> list[Row]:
    """Calls for one image, one after the other: alone, and beside eight inversions."""
    pictures = list(client.generate(seed=0, count=8))
    alone = call_times(client)
    over = threading.Event()

    def invert() -> int:
        evaluations = 0
        while not over.is_set():
            evaluations += sum(client.invert(pictures, enough_db=100).evaluations)
        return evaluations

    with ThreadPoolExecutor(1) as pool:
        inverting = pool.submit(invert)
        time.sleep(1.0)
        beside = call_times(client)
        over.set()
        evaluations = inverting.result()
    batch_ms = 1000 * client.invert(pictures, max_evaluations=8, enough_db=100).images.times.inference_s / 8 / 8
    return [
        Row("a call for an image, alone, p95", p95_ms(alone), "ms", f"{len(alone)} calls"),
        Row("beside eight inversions, p95", p95_ms(beside), "ms", f"{len(beside)} calls, {evaluations} evaluations"),
        Row("a batch of gradients", batch_ms, "ms"),
    ]


def call_times(client: Client) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + CALLS_S
    while (started := time.perf_counter()) < until:
        client.generate(seed=len(times))
        times.append(time.perf_counter() - started)
    return times


def p95_ms(times: list[float]) -> float:
    return 1000 * sorted(times)[int(len(times) * 0.95)]


if __name__ == "__main__":
    main()
