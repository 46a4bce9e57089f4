"""Milliseconds that each of the last layers of the paper's network of 128x128 pixels takes an image, by every algorithm
that `progan export` tries: alone and in a batch, on average.

Algorithms of a layer take turns; figures are the least, as in the choice of `progan export`.
"""

from models import FULL_SIZE
from results import Row, publish

from progan_service.host.tensorflow import import_tensorflow

import_tensorflow()
import keras  # noqa: E402

from progan_service.model.inference.cpu_tuning import tried  # noqa: E402
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
        for layer, trials in tried(generator.blocks[resolution], resolution, activations).items()
        for trial in trials
    ]


if __name__ == "__main__":
    main()
