"""A generator in the form that is exported: functions of latents and labels, whatever they are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from progan_service.export.trained import TrainedGenerator
from progan_service.host.tensorflow import begin_bfloat16
from progan_service.label_kind import LabelKind
from progan_service.model.inference.cpu_tuning import tuned_for_cpu
from progan_service.model.inference.generator import InferenceGenerator
from progan_service.progress import Progress
from progan_service.store.metadata import (
    BFLOAT16_SIGNATURE,
    ON_CPU,
    UINT8_SIGNATURE,
)

Images = Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]


@dataclass(frozen=True)
class Exportable:
    """A generator that can be served, whatever it is made of.

    images        latents float32 [N, latent_size] and labels [N, label_size] (None without labels) -> [N, R, R, C],
                  linear, nominally -1..1; differentiable
    others        other functions for the same images, by the uint8 signatures that use them
    algorithms    the algorithm of each layer in the signatures for CPUs
    label_names   one a column, or none when they are unknown
    label_kind    what the labels are
    provenance    plain JSON values: where the generator comes from; at least "source", and "license" where one is known
    """

    images: Images
    latent_size: int
    resolution: int
    channels: int
    label_size: int = 0
    label_names: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Images] = field(default_factory=dict)
    algorithms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    label_kind: LabelKind = "classes"

    @classmethod
    def of(cls, trained: TrainedGenerator, *, tune: bool = True, progress: Progress = lambda *_: None) -> "Exportable":
        """Make a trained generator ready for export.

        tune   find the fastest algorithm of each layer on the CPUs of this machine, if the network is large
        """
        config, network = trained.generator.config, (trained.generator, trained.resolution, trained.alpha)
        others: dict[str, Images] = {}
        algorithms = {}
        begin_bfloat16()
        with tf.device("CPU:0"):
            images = InferenceGenerator(*network)
            half = others[BFLOAT16_SIGNATURE] = InferenceGenerator(*network, activations="bfloat16")
            for signature, direct in ((UINT8_SIGNATURE, images), (BFLOAT16_SIGNATURE, half)):
                if tune and (tuned := tuned_for_cpu(direct, trained.generator, progress)):
                    others[signature + ON_CPU], algorithms[signature + ON_CPU] = tuned
        return cls(
            images,
            config.latents,
            trained.resolution,
            config.channels,
            config.label_size,
            trained.label_names,
            trained.provenance,
            others,
            algorithms,
            trained.label_kind,
        )
