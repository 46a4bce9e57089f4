"""Images/s of one training step (critic with penalty, generator, average) at each resolution of the default preset."""

import time

from progan_service.config import DatasetConfig, NetworkConfig, RunConfig, TrainingConfig, training_values
from progan_service.tensorflow_import import import_tensorflow
from progan_service.training.presets import load_preset

import_tensorflow()
import tensorflow as tf  # noqa: E402

from progan_service.training.schedule import GrowthSchedule, Phase  # noqa: E402
from progan_service.training.state import TrainingState  # noqa: E402
from progan_service.training.step import compile_step  # noqa: E402

RESOLUTION = 64
SECONDS = 5.0


def images_per_s(state: TrainingState, config: RunConfig, phase: Phase) -> float:
    state.enter(phase)
    step = compile_step(state, config, phase)
    shape = [phase.batch_size, phase.resolution, phase.resolution, config.network.channels]
    arguments = tf.zeros(shape, tf.uint8), tf.constant(0, tf.int64), tf.constant(1.0)
    step(*arguments)
    count, started = 0, time.monotonic()
    while time.monotonic() - started < SECONDS:
        step(*arguments)["G"].numpy()
        count += phase.batch_size
    return count / (time.monotonic() - started)


def main() -> None:
    preset = load_preset("cpu-small")
    training = TrainingConfig(**training_values(preset["training"]))
    config = RunConfig(DatasetConfig("zeros", 1), NetworkConfig(RESOLUTION, **preset["network"]), training)
    state = TrainingState.fresh(config)
    schedule = GrowthSchedule(training, RESOLUTION)
    cycle = round((training.stable_kimg + training.fade_kimg) * 1000)
    for stage in range((RESOLUTION // 4).bit_length()):
        phase = schedule.at(stage * cycle)
        size = f"{phase.resolution}x{phase.resolution}"
        print(f"training {size:>7}, batch {phase.batch_size}: {images_per_s(state, config, phase):.1f} images/s")


if __name__ == "__main__":
    main()
