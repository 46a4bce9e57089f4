"""An exported version as a source: the trained network that its signature for float32 images computes.

A version holds the weights as they are served: scaled, and folded into the upscaling. Both are undone here. A version
that was made of another network can still be exported again, as the function that it is.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service import formats
from progan_service.errors import BadInputError
from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.host.tensorflow import begin_bfloat16
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.config import NetworkConfig
from progan_service.model.layers import EqualizedConv2D, EqualizedDense
from progan_service.model.networks import Generator
from progan_service.model.pixels import to_unit_range
from progan_service.store.metadata import DIFFERENTIABLE_SIGNATURE, FLOAT_SIGNATURE, ModelMetadata
from progan_service.store.store import ModelStore

CLOSE = 1e-3  # of images in 0..1; rounding is a hundred times less

Array = NDArray[np.float32]


class VersionError(BadInputError):
    """The version holds no network that could be trained further; the message names it and the reason."""


def open_version(directory: Path) -> TrainedGenerator | Exportable:
    """Return the generator of a version <store>/<model>/<version>; the version itself, wrapped, if it has no network.

    Raises ModelStoreError for one that is damaged or in no store.
    """
    try:
        return load_version(directory)
    except VersionError as error:
        return _wrapped(directory, error)


def _wrapped(directory: Path, reason: VersionError) -> Exportable:
    """Return the function of a version. Raises `reason` if it has none that can be exported again."""
    store, name, version = ModelStore.of_version(directory)
    directory, metadata = store.path(name, version), store.metadata(name, version)
    begin_bfloat16()
    module = tf.saved_model.load(str(directory))
    if DIFFERENTIABLE_SIGNATURE not in module.signatures:
        raise reason

    def images(latents: tf.Tensor, labels: tf.Tensor | None) -> tf.Tensor:
        inputs = {"latents": latents} if labels is None else {"latents": latents, "labels": labels}
        return 2.0 * module.signatures[DIFFERENTIABLE_SIGNATURE](**inputs)["images"] - 1.0

    return Exportable(
        images,
        metadata.latent_size,
        metadata.resolution,
        metadata.channels,
        metadata.label_count,
        metadata.label_names,
        metadata.provenance,
        label_kind=metadata.label_kind,
    )


def load_version(directory: Path) -> TrainedGenerator:
    """Return the generator of a version <store>/<model>/<version>. Layers of lower resolutions to RGB stay random.

    Raises VersionError for a version that was not made of a network of this trainer, ModelStoreError for one that is
    damaged or in no store.
    """
    store, name, version = ModelStore.of_version(directory)
    directory, metadata = store.path(name, version), store.verify(name, version)
    try:
        generator = _generator(directory, metadata)
    except BadInputError as error:
        raise VersionError(f"{directory}: {error}; give the run or the weights file that it was made of") from error
    return TrainedGenerator(
        generator,
        metadata.resolution,
        1.0,
        metadata.label_names,
        dict(metadata.provenance),
        label_kind=metadata.label_kind,
    )


def _generator(directory: Path, metadata: ModelMetadata) -> Generator:
    """Return a network with the weights of a version. Raises VersionError unless it makes the same images."""
    described: Any = metadata.provenance.get("network")
    if not isinstance(described, dict):
        raise VersionError("it does not say which network it was made of")
    network = NetworkConfig(**formats.field_values(NetworkConfig, described, "provenance.network"))
    generator = Generator(network)
    begin_bfloat16()
    module = tf.saved_model.load(str(directory))  # must outlive the signature
    signature = module.signatures[FLOAT_SIGNATURE]
    _assign(generator, metadata.resolution, [variable.numpy() for variable in signature.variables])
    _require_same_images(generator, metadata, signature)
    return generator


def _assign(generator: Generator, resolution: int, arrays: Sequence[Array]) -> None:
    """Give a network the arrays of a signature, which come in the order of its layers."""
    layers = [*_layers(generator, resolution)]
    if len(arrays) != 2 * len(layers):
        raise VersionError(f"it has {len(arrays)} arrays where its network has {2 * len(layers)}")
    for (layer, bias), kernel, offset in zip(layers, arrays[::2], arrays[1::2], strict=True):
        kernel = _unfolded(layer, kernel)
        if kernel.shape != tuple(layer.kernel.shape) or offset.shape != tuple(bias.shape):
            raise VersionError(f"its layer {layer.path} has another shape than its network says")
        layer.kernel.assign(kernel)
        bias.assign(offset)


def _require_same_images(generator: Generator, metadata: ModelMetadata, signature: Any) -> None:
    """Raise VersionError unless the network makes the images of the version."""
    inputs = {"latents": tf.constant(latents_from_seeds(seed_range(0, 4), metadata.latent_size))}
    if metadata.label_count:
        inputs["labels"] = tf.one_hot([0, 0, 0, 0], metadata.label_count)
    images = to_unit_range(generator(*inputs.values(), resolution=metadata.resolution))
    furthest = float(tf.reduce_max(tf.abs(images - signature(**inputs)["images"])))
    if not furthest < CLOSE:
        raise VersionError(f"the network that it describes makes other images than it does, {furthest:.3g} apart")


def _layers(generator: Generator, resolution: int) -> Iterator[tuple[EqualizedDense | EqualizedConv2D, Any]]:
    """Yield the layers that make images of this resolution, each with the bias that follows it."""
    first = generator.input_block
    yield first.dense, first.bias
    yield first.conv, first.conv.bias
    for side, block in generator.blocks.items():
        if side <= resolution:
            yield block.conv0, block.conv0.bias
            yield block.conv1, block.conv1.bias
    yield generator.to_rgb[resolution], generator.to_rgb[resolution].bias


def _unfolded(layer: EqualizedDense | EqualizedConv2D, kernel: Array) -> Array:
    """Return the weights of a layer, from the kernel as it is served."""
    if isinstance(layer, EqualizedConv2D) and layer.resample == "up":
        return layer.from_transposed_kernel(kernel)
    return kernel / np.float32(layer.scale)
