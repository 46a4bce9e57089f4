"""Prints how many of the images that could be useful are: simulated, and on a real server whose device only sleeps.

A cell is the goodput with one caller / with four. 100 % is what a scheduler could deliver that knows all calls and the
pace (best.py), in batches of any size at the pace of the best one. A dash: nobody can answer such calls in time.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from best import most_useful
from calls import IMAGES, Asked, poisson, together
from real import ask, peak_images_per_s
from simulation import Machine, simulate
from sleeper import sleeper_store

from progan_client import Client

CALLERS = (1, 4)
TOKENS = {str(number): f"a-token-for-caller-{number}" for number in range(max(CALLERS))}

SIMULATED_LOADS, SIMULATED_S = (1, 2, 5, 20), (0.15, 0.3, 1.0, 3.0)
REAL_LOADS, REAL_S, REAL_BATCH_S = (1, 2, 5), (0.5, 1.0), 0.1

Goodput = Callable[[list[Asked]], int]
PROGAN = str(Path(sys.executable).with_name("progan"))


def main() -> None:
    simulated()
    with sleeper_store(REAL_BATCH_S) as store, server(store, PROGAN) as target:
        measured(target)


def simulated(goodput: Callable[[list[Asked], Machine], int] | None = None) -> None:
    machine = Machine()
    print(f"Simulated: 16 images in 50 ms, {machine.images_per_s():.0f} images/s")
    run = goodput or (lambda calls, machine: simulate(calls, machine).useful)
    show(SIMULATED_S, SIMULATED_LOADS, machine, lambda calls: run(calls, machine))


def measured(target: str) -> None:
    images_per_s = asyncio.run(peak_images_per_s(target, TOKENS["0"]))
    print(f"Measured on a real server: 16 images in {REAL_BATCH_S * 1000:.0f} ms, {images_per_s:.0f} images/s")

    def useful(calls: list[Asked]) -> int:
        return sum(answers.useful for answers in asyncio.run(ask(target, calls, TOKENS)).values())

    show(REAL_S, REAL_LOADS, Machine(batch_s=16 / images_per_s, row_s=0.0), useful)


def show(within_s: tuple[float, ...], loads: tuple[int, ...], machine: Machine, useful: Goodput) -> None:
    print("| images a call | deadline |" + "".join(f" load {load} |" for load in loads))
    print("|---|---|" + "---|" * len(loads))
    for images, sizes in IMAGES.items():
        for seconds in within_s:
            cells = [cell(sizes, seconds, load, machine, useful) for load in loads]
            print(f"| {images} | {seconds:g} s | {' | '.join(cells)} |", flush=True)


def cell(sizes: tuple[int, ...], within_s: float, load: int, machine: Machine, useful: Goodput) -> str:
    figures = []
    for number in CALLERS:
        rate = load * machine.images_per_s() / number
        calls = together(*(poisson(rate, max(5, 4 * within_s), sizes, within_s, f"{n}") for n in range(number)))
        best = most_useful(calls, machine)
        figures.append(f"{useful(calls) / best:.0%}" if best else "-")
    return " / ".join(figures)


@contextmanager
def server(store: Path, *command: str) -> Iterator[str]:
    """Run `progan serve` of any release and return its address."""
    with tempfile.TemporaryDirectory() as directory:
        tokens = Path(directory) / "tokens"
        tokens.write_text("".join(f"caller-{name} {token}\n" for name, token in TOKENS.items()))
        port = 20_000 + os.getpid() % 10_000
        options = ["--store", str(store), "--tokens", str(tokens), "--port", str(port), "--http-port", "0"]
        process = subprocess.Popen(
            [*command, "serve", *options, "--lame-duck-s", "0", "--no-log-requests"], stdout=subprocess.DEVNULL
        )
        try:
            with Client(f"127.0.0.1:{port}", token=TOKENS["0"]) as client:
                client.wait_until_ready(120)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
