"""What sources give whose network is ours: a generator with its weights."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from progan_service.export import Exportable
from progan_service.model.networks import Generator


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator at one point of its growth.

    alpha        how far `resolution` has been blended in; 1 for a finished one
    provenance   see Exportable
    """

    generator: Generator
    resolution: int
    alpha: float
    label_names: tuple[str, ...]
    provenance: dict[str, Any]

    def exportable(self) -> Exportable:
        config = self.generator.config
        blend = tf.constant(self.alpha) if self.alpha < 1.0 else None
        return Exportable(
            lambda latents, labels: self.generator(latents, labels, resolution=self.resolution, alpha=blend),
            config.latent_size,
            self.resolution,
            config.channels,
            config.label_size,
            self.label_names,
            self.provenance,
        )
