"""Milliseconds per image of the last layers of the paper's 128x128 network, for every algorithm of `progan export`.

Each figure is the average of a single image and of a batch. The algorithms of a layer take turns, and the fastest turn
counts, as in the choice that `progan export` makes.
"""

from models import FULL_SIZE
from results import Row, publish

from progan_service.host.tensorflow import import_tensorflow

import_tensorflow()
import keras  # noqa: E402

from progan_service.model.inference.cpu_tuning import time_algorithms  # noqa: E402
from progan_service.model.networks import Generator  # noqa: E402


def main() -> None:
    keras.utils.set_random_seed(0)
    generator = Generator(FULL_SIZE)
    for activations in ("float32", "bfloat16"):
        rows = [row for r in (32, 64, 128) for row in of_block(generator, r, activations)]
        publish(f"layers-{activations}", rows)


def of_block(generator: Generator, resolution: int, activations: str) -> list[Row]:
    return [
        Row(
            f"{resolution}x{resolution}/{layer}, {trial.algorithm.name}",
            1000 * trial.seconds,
            "ms",
            trial.algorithm.arrangement.value,
        )
        for layer, trials in time_algorithms(generator.blocks[resolution], resolution, activations).items()
        for trial in trials
    ]


if __name__ == "__main__":
    main()
