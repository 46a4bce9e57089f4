"""Everything that changes while a run goes on, and so everything a checkpoint holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from progan_service.config import RunConfig, TrainingConfig
from progan_service.model.networks import Discriminator, Generator
from progan_service.training.checkpoint import assign_variables, read_checkpoint, save_checkpoint
from progan_service.training.schedule import Phase


@dataclass
class TrainingState:
    """Networks, optimizers and progress.

    generator_ema    exponential moving average of the generator: the one to look at and to export
    images_shown     real images so far
    stage            (resolution, fading) of the last step; Adam starts afresh whenever it changes
    """

    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator
    generator_adam: keras.optimizers.Adam
    discriminator_adam: keras.optimizers.Adam
    images_shown: int = 0
    stage: tuple[int, bool] = (4, False)

    @classmethod
    def fresh(cls, config: RunConfig) -> Self:
        keras.utils.set_random_seed(config.training.seed)
        generator = Generator(config.network)
        discriminator = Discriminator(config.network, config.training.mbstd_group_size)
        generator_ema = Generator(config.network, name="generator_ema")
        for average, weight in zip(generator_ema.weights, generator.weights, strict=True):
            average.assign(weight)
        generator_adam, discriminator_adam = (
            _adam(config.training, "generator"),
            _adam(config.training, "discriminator"),
        )
        generator_adam.build(generator.trainable_variables)
        discriminator_adam.build(discriminator.trainable_variables)
        return cls(generator, discriminator, generator_ema, generator_adam, discriminator_adam)

    def enter(self, phase: Phase) -> None:
        """Adam forgets at the start and at the end of every fade (paper, appendix A.1)."""
        if self.stage != (phase.resolution, phase.fading):
            self.stage = (phase.resolution, phase.fading)
            for variable in (*self.generator_adam.variables, *self.discriminator_adam.variables):
                variable.assign(tf.zeros_like(variable))
        for adam in (self.generator_adam, self.discriminator_adam):
            adam.learning_rate.assign(phase.learning_rate)

    def save(self, directory: Path) -> None:
        arrays = {variable.path: variable.numpy() for variable in self._variables()}
        arrays |= {"images_shown": np.array(self.images_shown), "stage": np.array(self.stage)}
        save_checkpoint(directory, self.images_shown, arrays)

    def restore(self, checkpoint: Path) -> None:
        """Raises CheckpointError when the file is damaged or belongs to another network."""
        arrays = read_checkpoint(checkpoint)
        assign_variables(checkpoint, arrays, self._variables())
        self.images_shown = int(arrays["images_shown"])
        resolution, fading = arrays["stage"]
        self.stage = (int(resolution), bool(fading))

    def _variables(self) -> list[keras.Variable]:
        networks = [*self.generator.weights, *self.discriminator.weights, *self.generator_ema.weights]
        return [*networks, *self.generator_adam.variables, *self.discriminator_adam.variables]


def _adam(config: TrainingConfig, network: str) -> keras.optimizers.Adam:
    return keras.optimizers.Adam(beta_1=0.0, beta_2=config.adam_beta2, epsilon=1e-8, name=f"{network}_adam")
