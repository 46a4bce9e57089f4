"""Export of a generator: a SavedModel, its metadata and golden images, as a version of a model store."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.evaluation.psnr import psnr_db
from progan_service.export.discriminator import write_discriminator
from progan_service.export.exportable import Exportable, Images
from progan_service.export.inversion import loss_gradient, measured_guide
from progan_service.export.tf_serving import write_warmup
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.pixels import to_uint8, to_unit_range
from progan_service.progress import Progress
from progan_service.store.inversion import GUIDE_FILE, save_guide
from progan_service.store.metadata import (
    BFLOAT16_SIGNATURE,
    DIFFERENTIABLE_SIGNATURE,
    FLOAT_SIGNATURE,
    GRADIENT_SIGNATURE,
    UINT8_SIGNATURE,
    ModelMetadata,
)
from progan_service.store.store import ModelStore

GOLDEN_SEEDS = 4
Signature = Any  # a concrete function: tensors by name -> tensors by name


def export_version(
    exportable: Exportable,
    store: ModelStore,
    name: str,
    *,
    discriminator: Mapping[str, NDArray[np.generic]] | None = None,
    kept: Sequence[Path] = (),
    label: str = "",
    serve: bool = True,
    invert: bool = True,
    progress: Progress = lambda *_: None,
) -> int:
    """Publish a generator as the next version of the model `name`, and return its number.

    discriminator   its weights by their paths, to train on with the version; those of other networks are left out
    kept            files of an earlier version of the same generator, such as its directions, for this one, too
    label, serve    those of `ModelStore.publish`
    invert          add what is needed to find the latents of images, if the generator has gradients
    Raises ModelStoreError for a bad name or label.
    """

    def write(directory: Path) -> ModelMetadata:
        module, signatures = _serving_module(exportable, invert)
        tf.saved_model.save(module, str(directory), signatures=signatures)
        inputs = _inputs(exportable, GOLDEN_SEEDS)
        write_warmup(directory, name, (FLOAT_SIGNATURE, UINT8_SIGNATURE), inputs)
        if discriminator is not None:
            write_discriminator(directory, discriminator)
        images = _run(signatures[UINT8_SIGNATURE], inputs)
        if GRADIENT_SIGNATURE in signatures:
            guide, seeds = measured_guide(signatures[FLOAT_SIGNATURE], exportable, progress)
            save_guide(guide, seeds, directory / GUIDE_FILE)
        for file in kept:
            shutil.copyfile(file, directory / file.name)
        return ModelMetadata(
            latent_size=exportable.latent_size,
            resolution=exportable.resolution,
            channels=exportable.channels,
            label_count=exportable.label_size,
            label_names=exportable.label_names,
            label_kind=exportable.label_kind,
            provenance={**exportable.provenance, "exported_at": datetime.now(UTC).isoformat(timespec="seconds")},
            golden=_write_golden(directory, images),
            signatures=tuple(signatures),
            bfloat16_psnr_db=min(
                (psnr_db(_run(signatures[name], inputs), images) for name in signatures if BFLOAT16_SIGNATURE in name),
                default=None,
            ),
            algorithms=exportable.algorithms,
        )

    return store.publish(name, write, label=label, serve=serve)


def _serving_module(exportable: Exportable, invert: bool) -> tuple[tf.Module, dict[str, Signature]]:
    """Return a module that owns the weights, and its signatures.

    A signature maps latents [N, L], and labels [N, K] if there are any, to images [N, R, R, C]. For that with gradients
    see `loss_gradient`.
    """
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
    if invert and (gradient := loss_gradient(exportable)):
        signatures[GRADIENT_SIGNATURE] = gradient
    module = tf.Module()
    module.weights = [variable for name in signatures for variable in signatures[name].variables]
    return module, signatures


def _run(signature: Signature, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    tensors = {name: tf.constant(values) for name, values in inputs.items()}
    images: NDArray[np.uint8] = signature(**tensors)["images"].numpy()
    return images


def _inputs(exportable: Exportable, count: int) -> dict[str, NDArray[np.float32]]:
    """Return the latents of the first seeds, and the first label if the generator has labels."""
    inputs = {"latents": latents_from_seeds(seed_range(0, count), exportable.latent_size)}
    if exportable.label_size:
        inputs["labels"] = np.eye(exportable.label_size, dtype=np.float32)[[0] * count]
    return inputs


def _write_golden(directory: Path, images: NDArray[np.uint8]) -> dict[str, str]:
    """Write the images of the first seeds as PNGs. A server that loads the version must reproduce them."""
    (directory / "golden").mkdir()
    golden = {}
    for seed, pixels in enumerate(images):
        golden[str(seed)] = f"golden/seed-{seed}.png"
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(directory / golden[str(seed)])
    return golden
