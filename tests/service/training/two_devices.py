"""A program of test_step.py: the same three steps on one device and on two.

    two_devices.py CONFIG.json DATASET OUT

writes OUT/{one,two}.json, the losses of every step, and OUT/{one,two}.npz, the state at the end once it was restored. A
program of its own, because a process must say that it has two devices before it uses the first.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from progan_service.data.dataset import Dataset
from progan_service.training.config import RunConfig
from progan_service.training.feed import Arrays, Feed, load_batch
from progan_service.training.schedule import GrowthSchedule
from progan_service.training.state import TrainingState
from progan_service.training.step import Batch, Step

STEPS = 3  # of 4x4


def main(config_file: Path, data: Path, out: Path) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    config, dataset = RunConfig.from_json(config_file.read_text()), Dataset.open(data)
    for name, strategy in (("one", None), ("two", tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))):
        state = TrainingState.fresh(config, strategy)
        losses = take_steps(state, config, dataset)
        restored = TrainingState.fresh(config, strategy)
        restored.assign(state.arrays(), out)
        assert_replicas_agree(state)
        assert_replicas_agree(restored)
        (out / f"{name}.json").write_text(json.dumps(losses))
        np.savez(out / f"{name}.npz", **restored.arrays())


def take_steps(state: TrainingState, config: RunConfig, dataset: Dataset) -> list[dict[str, float]]:
    schedule, feed = GrowthSchedule(config.training, config.network.resolution), Feed(dataset, config, state.strategy)
    phase = schedule.at(0)
    step, losses = Step(state, config, phase), []
    for images_shown in range(0, STEPS * phase.batch_size, phase.batch_size):
        phase, batch = schedule.at(images_shown), feed.take(images_shown)
        assert_in_turns(state.strategy, batch, load_batch(dataset, config, images_shown, phase, replica=0, of=1))
        taken = step(batch, images_shown, phase.alpha, phase.learning_rate, stop=images_shown > 0)
        losses.append({name: float(value) for name, value in taken.items()})
    feed.close()
    assert step._compiled.experimental_get_tracing_count() == 1
    return losses


def assert_in_turns(strategy: tf.distribute.Strategy, batch: Batch, whole: Arrays) -> None:
    """Replica r of W was fed with the images r, r + W, ..."""
    for values, expected in zip(batch, whole, strict=True):
        shares = strategy.experimental_local_results(values)
        assert len(shares) == strategy.num_replicas_in_sync
        for replica, share in enumerate(shares):
            np.testing.assert_array_equal(share, expected[replica :: len(shares)])


def assert_replicas_agree(state: TrainingState) -> None:
    networks = (state.generator, state.discriminator, state.generator_ema)
    adams = (state.generator_adam, state.discriminator_adam)
    variables = [weight.value for network in networks for weight in network.weights]
    for variable in (*variables, *(variable for adam in adams for variable in adam.variables)):
        copies = state.strategy.experimental_local_results(variable)
        assert len(copies) == state.strategy.num_replicas_in_sync
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
