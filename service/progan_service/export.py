"""A generator becomes a SavedModel version in a model store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.evaluation.psnr import psnr_db
from progan_service.latents import latents_from_seeds, seed_range
from progan_service.model.cpu_tuning import tuned_for_cpu
from progan_service.model.inference import InferenceGenerator
from progan_service.model.pixels import to_uint8, to_unit_range
from progan_service.model_store import (
    BFLOAT16_SIGNATURE,
    DIFFERENTIABLE_SIGNATURE,
    FLOAT_SIGNATURE,
    ON_CPU,
    UINT8_SIGNATURE,
    ModelMetadata,
    ModelStore,
)
from progan_service.tf_serving import write_warmup
from progan_service.weights import TrainedGenerator

GOLDEN_SEEDS = 4

Images = Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]
Signature = Any  # a concrete function: latents (and labels) -> {"images": tensor}


@dataclass(frozen=True)
class Exportable:
    """A generator that can be served, whatever it is made of.

    images        latents float32 [N, latent_size] and labels [N, label_size] (None without labels) -> [N, R, R, C],
                  linear, nominally -1..1; differentiable
    others        other ways to the same images, by the signatures that give them as uint8
    algorithms    of those for CPUs, by signature and layer
    label_names   one a column, or none when they are unknown
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

    @classmethod
    def of(cls, trained: TrainedGenerator) -> "Exportable":
        config, network = trained.generator.config, (trained.generator, trained.resolution, trained.alpha)
        others: dict[str, Images] = {}
        algorithms = {}
        with tf.device("CPU:0"):
            images = InferenceGenerator(*network)
            half = others[BFLOAT16_SIGNATURE] = InferenceGenerator(*network, activations="bfloat16")
            for signature, direct in ((UINT8_SIGNATURE, images), (BFLOAT16_SIGNATURE, half)):
                if tuned := tuned_for_cpu(direct, trained.generator):
                    others[signature + ON_CPU], algorithms[signature + ON_CPU] = tuned
        return cls(
            images,
            config.latent_size,
            trained.resolution,
            config.channels,
            config.label_size,
            trained.label_names,
            trained.provenance,
            others,
            algorithms,
        )


def export_version(exportable: Exportable, store: ModelStore, name: str) -> int:
    """Publish a generator as the next version of `name`; that version. Raises ModelStoreError for a bad name."""

    def write(directory: Path) -> ModelMetadata:
        module, signatures = _serving_module(exportable)
        tf.saved_model.save(module, str(directory), signatures=signatures)
        inputs = _inputs(exportable, GOLDEN_SEEDS)
        write_warmup(directory, name, (FLOAT_SIGNATURE, UINT8_SIGNATURE), inputs)
        images = _run(signatures[UINT8_SIGNATURE], inputs)
        return ModelMetadata(
            latent_size=exportable.latent_size,
            resolution=exportable.resolution,
            channels=exportable.channels,
            label_count=exportable.label_size,
            label_names=exportable.label_names,
            provenance={**exportable.provenance, "exported_at": datetime.now(UTC).isoformat(timespec="seconds")},
            golden=_write_golden(directory, images),
            signatures=tuple(signatures),
            bfloat16_psnr_db=min(
                (psnr_db(_run(signatures[name], inputs), images) for name in signatures if BFLOAT16_SIGNATURE in name),
                default=None,
            ),
            algorithms=exportable.algorithms,
        )

    return store.publish(name, write)


def _serving_module(exportable: Exportable) -> tuple[tf.Module, dict[str, Signature]]:
    """A module that owns the weights, and its signatures: latents [N, L] (and labels [N, K]) -> images [N, R, R, C]."""
    inputs = [tf.TensorSpec([None, exportable.latent_size], tf.float32, name="latents")]
    if exportable.label_size:
        inputs.append(tf.TensorSpec([None, exportable.label_size], tf.float32, name="labels"))

    def signature(finish: Callable[[tf.Tensor], tf.Tensor], images: Images = exportable.images) -> Signature:
        def generate(latents: tf.Tensor, labels: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
            return {"images": finish(images(latents, labels))}

        return tf.function(generate).get_concrete_function(*inputs)

    signatures = {
        FLOAT_SIGNATURE: signature(to_unit_range),
        UINT8_SIGNATURE: signature(to_uint8),
        DIFFERENTIABLE_SIGNATURE: signature(lambda images: (images + 1.0) / 2.0),
    }
    signatures |= {name: signature(to_uint8, images) for name, images in exportable.others.items()}
    module = tf.Module()
    module.weights = [variable for name in signatures for variable in signatures[name].variables]
    return module, signatures


def _run(signature: Signature, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    tensors = {name: tf.constant(values) for name, values in inputs.items()}
    images: NDArray[np.uint8] = signature(**tensors)["images"].numpy()
    return images


def _inputs(exportable: Exportable, count: int) -> dict[str, NDArray[np.float32]]:
    """Latents of the first seeds, and the first label where there are labels."""
    inputs = {"latents": latents_from_seeds(seed_range(0, count), exportable.latent_size)}
    if exportable.label_size:
        inputs["labels"] = np.eye(exportable.label_size, dtype=np.float32)[[0] * count]
    return inputs


def _write_golden(directory: Path, images: NDArray[np.uint8]) -> dict[str, str]:
    """PNGs of the first seeds' images: what a loaded copy must show again."""
    (directory / "golden").mkdir()
    golden = {}
    for seed, pixels in enumerate(images):
        golden[str(seed)] = f"golden/seed-{seed}.png"
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(directory / golden[str(seed)])
    return golden
