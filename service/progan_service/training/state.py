"""The state of a run: everything that changes during training, and so everything that a checkpoint contains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.model.networks import Discriminator, Generator
from progan_service.training.adam import Adam
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import (
    CheckpointError,
    DamagedCheckpointError,
    assign_variables,
    checkpoints,
    read_checkpoint,
    save_checkpoint,
)
from progan_service.training.stage import FIRST_STAGE, Phase, Stage


@dataclass
class TrainingState:
    """Networks, optimizers and progress.

    strategy         mirrors the variables over the devices
    generator_ema    exponential moving average of the generator, used for samples and for export
    digests          of the run's configuration: checkpoints get the first one, all of them are recognised
    images_shown     real images so far
    stage            of the last step; Adam is reset when it changes
    """

    strategy: tf.distribute.Strategy
    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator
    generator_adam: Adam
    discriminator_adam: Adam
    digests: tuple[str, ...]
    images_shown: int = 0
    stage: Stage = FIRST_STAGE

    @classmethod
    def fresh(cls, config: RunConfig, strategy: tf.distribute.Strategy | None = None) -> Self:
        """Make the state of a new run. A `strategy` of None trains on one device."""
        training = config.training
        strategy = strategy or tf.distribute.get_strategy()
        keras.utils.set_random_seed(training.seed)
        compute: dict[str, Any] = {"fused": training.fused_kernels, "activations": training.precision}
        with strategy.scope():
            generator = Generator(config.network, **compute)
            discriminator = Discriminator(config.network, mbstd_group_size=training.mbstd_group_size, **compute)
            generator_ema = Generator(config.network, **compute, name="generator_ema")
            generator_adam = Adam(generator.weights, training.adam_beta2, "generator_adam")
            discriminator_adam = Adam(discriminator.weights, training.adam_beta2, "discriminator_adam")
        for average, weight in zip(generator_ema.weights, generator.weights, strict=True):
            average.assign(weight.numpy())
        networks = (generator, discriminator, generator_ema)
        return cls(strategy, *networks, generator_adam, discriminator_adam, config.digests)

    def begin_with(self, arrays: Mapping[str, NDArray[np.generic]]) -> tuple[list[str], list[str]]:
        """Give all weights that have an array of their name and shape that array.

        Returns the names of these weights, and of those that stay random.
        """
        networks = (self.generator, self.discriminator, self.generator_ema)
        weights = {weight.path: weight for network in networks for weight in network.weights}
        fitting = [name for name, weight in weights.items() if name in arrays and arrays[name].shape == weight.shape]
        for name in fitting:
            weights[name].assign(arrays[name])
        return fitting, [name for name in weights if name not in fitting]

    def enter(self, phase: Phase) -> None:
        """Reset Adam if the phase belongs to a new stage: at the start and the end of every fade (appendix A.1)."""
        if self.stage != phase.stage:
            self.stage = phase.stage
            self.generator_adam.forget()
            self.discriminator_adam.forget()

    def move_average(self, decay: float) -> None:
        """generator_ema <- decay generator_ema + (1 - decay) generator. Call it outside of the replicas."""

        def move(average: tf.Variable, weight: tf.Variable) -> None:
            average.assign(weight + (average - weight) * decay)

        for average, weight in zip(self.generator_ema.weights, self.generator.weights, strict=True):
            self.strategy.extended.update(average.value, move, args=(weight.value,))

    def local(self, value: Any) -> tf.Tensor:
        """Return the first local copy of a value that is equal on all replicas."""
        return self.strategy.experimental_local_results(value)[0]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the content of a checkpoint: all variables by name, `images_shown`, `stage` and `config_digest`."""
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        progress = {"images_shown": self.images_shown, "stage": self.stage, "config_digest": self.digests[0]}
        return arrays | {name: np.array(value) for name, value in progress.items()}

    def assign(self, arrays: Mapping[str, NDArray[np.generic]], source: Path) -> None:
        """Take over what `arrays` returned. Raises CheckpointError, naming `source`, for the arrays of another run."""
        if str(arrays["config_digest"]) not in self.digests:
            raise CheckpointError(f"{source}: belongs to a run with another configuration")
        assign_variables(source, arrays, self._variables())
        self.images_shown = int(arrays["images_shown"])
        resolution, fading = arrays["stage"]
        self.stage = Stage(int(resolution), bool(fading))

    def save(self, directory: Path) -> None:
        """Write a checkpoint into `directory`. Raises OSError."""
        save_checkpoint(directory, self.images_shown, self.arrays())

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises CheckpointError for a damaged file or one of another run."""
        self.assign(read_checkpoint(checkpoint), checkpoint)

    def restore_newest(self, directory: Path, report: Callable[[str], None]) -> Path | None:
        """Go on from the newest whole checkpoint of a directory and return it, None where there are no checkpoints.

        Damaged ones are reported as warnings. Raises CheckpointError if all are damaged, and for one of another run.
        """
        found = checkpoints(directory)
        for checkpoint in found:
            try:
                self.restore(checkpoint)
            except DamagedCheckpointError as error:
                report(f"warning: {error}")
            else:
                return checkpoint
        if found:
            raise CheckpointError(f"{directory}: holds damaged checkpoints alone; remove them to begin the run anew")
        return None

    def _variables(self) -> dict[str, tf.Variable]:
        networks = (self.generator, self.discriminator, self.generator_ema)
        adams = (self.generator_adam, self.discriminator_adam)
        return {weight.path: weight.value for network in networks for weight in network.weights} | {
            variable.name.removesuffix(":0"): variable for adam in adams for variable in adam.variables
        }
