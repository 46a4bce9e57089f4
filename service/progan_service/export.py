"""A generator becomes a SavedModel version in a model store."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image

from progan_service.latents import latents_from_seeds, seed_range
from progan_service.model.networks import Generator
from progan_service.model.pixels import to_uint8, to_unit_range
from progan_service.model_store import (
    DIFFERENTIABLE_SIGNATURE,
    FLOAT_SIGNATURE,
    UINT8_SIGNATURE,
    ModelMetadata,
    ModelStore,
)

GOLDEN_SEEDS = 4

Signature = Any  # a concrete function: latents (and labels) -> {"images": tensor}


def export_generator(
    generator: Generator,
    store: ModelStore,
    name: str,
    *,
    resolution: int,
    alpha: float = 1.0,
    label_names: tuple[str, ...] = (),
    provenance: Mapping[str, Any],
) -> int:
    """Publish a generator, as it is at one resolution and blend, as the next version of `name`; returns the version.

    provenance   plain JSON values: where the generator came from and how it was trained
    Raises ModelStoreError for a bad name.
    """

    def write(directory: Path) -> ModelMetadata:
        config = generator.config
        module, signatures = _serving_module(generator, resolution, alpha)
        tf.saved_model.save(module, str(directory), signatures=signatures)
        return ModelMetadata(
            latent_size=config.latent_size,
            resolution=resolution,
            channels=config.channels,
            label_count=config.label_size,
            label_names=label_names,
            provenance={**provenance, "exported_at": datetime.now(UTC).isoformat(timespec="seconds")},
            golden=_write_golden(directory, signatures[UINT8_SIGNATURE], config.latent_size, config.label_size),
        )

    return store.publish(name, write)


def _serving_module(generator: Generator, resolution: int, alpha: float) -> tuple[tf.Module, dict[str, Signature]]:
    """A module that owns the weights, and its signatures: latents [N, L] (and labels [N, K]) -> images [N, R, R, C]."""
    config = generator.config
    blend = tf.constant(alpha) if alpha < 1.0 else None
    inputs = [tf.TensorSpec([None, config.latent_size], tf.float32, name="latents")]
    if config.label_size:
        inputs.append(tf.TensorSpec([None, config.label_size], tf.float32, name="labels"))

    def signature(finish: Callable[[tf.Tensor], tf.Tensor]) -> Signature:
        def generate(latents: tf.Tensor, labels: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
            return {"images": finish(generator(latents, labels, resolution=resolution, alpha=blend))}

        return tf.function(generate).get_concrete_function(*inputs)

    signatures = {
        FLOAT_SIGNATURE: signature(to_unit_range),
        UINT8_SIGNATURE: signature(to_uint8),
        DIFFERENTIABLE_SIGNATURE: signature(lambda images: (images + 1.0) / 2.0),
    }
    module = tf.Module()
    module.weights = list(signatures[FLOAT_SIGNATURE].variables)
    return module, signatures


def _write_golden(directory: Path, generate: Signature, latent_size: int, label_size: int) -> dict[str, str]:
    """PNGs of the first seeds' images (and first label): what a loaded copy must show again."""
    latents = tf.constant(latents_from_seeds(seed_range(0, GOLDEN_SEEDS), latent_size))
    labels = [tf.one_hot([0] * GOLDEN_SEEDS, label_size)] if label_size else []
    (directory / "golden").mkdir()
    golden = {}
    for seed, pixels in enumerate(generate(latents, *labels)["images"].numpy()):
        golden[str(seed)] = f"golden/seed-{seed}.png"
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(directory / golden[str(seed)])
    return golden
