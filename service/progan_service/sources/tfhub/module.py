"""A TF Hub module as a source: a generator of our own where its weights are those of one, else the module as it is.

The module's graph is taken out of TensorFlow's loader with its weights as constants, which then become variables
again. What is left is a function of the latents alone that gives the module's images to the bit and can be saved,
whatever kind of variables the module has: those of 2018, reference variables, a `tf.saved_model.save` would lose.

A module gives images in 0..1, as google/progan-128 does, or in -1..1: its images tell which. Its graph is a program:
load modules that you trust.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from progan_service.checks import is_power_of_two, resolutions_up_to
from progan_service.errors import ConfigError
from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.sources.tfhub.fetch import Fetched, HubModuleError

TF1_HUB_MARK = "tfhub_module.pb"
SIGNATURES = ("default", "serving_default")  # the first of them that there is, else the only one
MOST_DIFFERENCE = 1e-4  # between images, in 0..1, of a module and of the generator made from it

_BATCH = 4
_PLAIN = 8  # of the 16 latents that a module is tried with are as drawn; the others are shorter or longer
_LENGTHS = np.repeat([1.0, 0.1, 10.0], [_PLAIN, 4, 4])[:, None].astype(np.float32)
_TO_LINEAR = {"0..1": (2.0, -1.0), "-1..1": (1.0, 0.0)}  # gain and offset by which images of a range come to -1..1
_LICENSE = "stated on the page of the module; unknown here"
# TensorFlow counts these as stateful, though what they call may not be, and these as stateless, though they reach out.
_PURE = {"Assert", "Case", "If", "StatefulPartitionedCall", "While"}
_IMPURE = {"MatchingFiles", "PyFuncStateless", "ReadFile"}

Array = NDArray[np.float32]
Draw = Callable[[tf.Tensor], tf.Tensor]  # latents float32 [N, L] -> images float32 [N, R, R, C]


class _OtherNetworkError(Exception):
    """The module is no generator of ours; the message is the reason."""


@dataclass(frozen=True)
class _Module:
    """A module that stands on its own.

    weights   its float32 arrays but for single numbers, in the order in which the latents meet them
    """

    draw: Draw
    weights: list[Array]


@dataclass(frozen=True)
class _Conv:
    kernel: Array  # [height, width, in, out], N(0, 1)
    bias: Array  # [out]


def load_hub_module(fetched: Fetched) -> Exportable | TrainedGenerator:
    """The generator of a module: a TrainedGenerator if one with the module's weights draws the module's images within
    MOST_DIFFERENCE, else the module itself, wrapped. Neither needs the files any more.

    The provenance tells the origin and content of the module, the "value_range" of its images, and the "form":
    "converted", with the greatest "difference" seen, or "wrapped", with the "reason".
    Raises HubModuleError for what is no generator of finite images [N, R, R, C] from latents [N, L] alone.
    """
    with _quiet(), _full_precision():
        module, latents, images = _load(fetched)
        value_range = _value_range(fetched.origin, images[:_PLAIN])
        gain, offset = _TO_LINEAR[value_range]
        provenance = {
            "source": "tfhub",
            "origin": fetched.origin,
            "sha256": fetched.sha256,
            "license": _LICENSE,
            "value_range": value_range,
        }
        resolution, channels = images.shape[2:]
        try:
            generator, difference = _convert(module.weights, latents, gain * images + offset)
        except _OtherNetworkError as reason:
            return Exportable(
                lambda latents, _: gain * module.draw(latents) + offset,
                latents.shape[1],
                resolution,
                channels,
                provenance=provenance | {"form": "wrapped", "reason": str(reason)},
            )
    return TrainedGenerator(
        generator, resolution, 1.0, (), provenance | {"form": "converted", "difference": difference}
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without TensorFlow's warnings of reference variables: nobody trains them here."""
    logger: logging.Logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Without the TF32 of GPUs, by which two ways to the same image differ by more than MOST_DIFFERENCE."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)


@contextmanager
def _failing_as(problem: str) -> Iterator[None]:
    """What a foreign graph throws, as HubModuleError; it may be an error of any kind."""
    try:
        yield
    except HubModuleError:
        raise
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        raise HubModuleError(f"{problem} ({first_line[:300]})") from error


# Loading


def _load(fetched: Fetched) -> tuple[_Module, Array, Array]:
    """The module, the latents that it was tried with, and its images of them."""
    origin = fetched.origin
    tags: list[str] | None = [] if (fetched.directory / TF1_HUB_MARK).is_file() else None
    with _failing_as(f"{origin}: TensorFlow cannot load it"):
        loaded = tf.saved_model.load(str(fetched.directory), tags=tags)
    signature, latent_size = _signature(origin, dict(loaded.signatures))
    latents = latents_from_seeds(seed_range(0, len(_LENGTHS)), latent_size) * _LENGTHS
    with _failing_as(f"{origin}: it cannot draw images"):
        module = _standing_alone(origin, signature, latent_size)
        images = _drawn(module.draw, latents)
        alone = _drawn(module.draw, latents[:1])
        (given,) = signature(tf.constant(latents[:_BATCH])).values()
    _check_images(origin, images)
    if np.abs(alone - images[:1]).max() > MOST_DIFFERENCE:
        raise HubModuleError(f"{origin}: an image depends on those drawn with it; it must depend on its latents alone")
    if np.abs(given - images[:_BATCH]).max() > MOST_DIFFERENCE:
        raise HubModuleError(f"{origin}: its graph draws other images outside of the module; it cannot be exported")
    return module, latents, images


def _signature(origin: str, signatures: dict[str, Any]) -> tuple[Any, int]:
    """The function to draw with, and the length of its latents."""
    known = [name for name in SIGNATURES if name in signatures] or list(signatures)
    if not known or (known[0] not in SIGNATURES and len(known) > 1):
        found = ", ".join(sorted(signatures)) or "none"
        raise HubModuleError(f"{origin}: has no signature {' or '.join(SIGNATURES)}, but {found}; it is no generator")
    signature = signatures[known[0]]
    inputs = list(signature.structured_input_signature[1].values())
    outputs = list(signature.structured_outputs.values())
    if [x.dtype for x in inputs] != [tf.float32] or inputs[0].shape.rank != 2 or inputs[0].shape[0] is not None:
        raise HubModuleError(f"{origin}: takes {_described(inputs)}; a generator takes float32 [?, L], latents, alone")
    if [x.dtype for x in outputs] != [tf.float32]:
        raise HubModuleError(f"{origin}: gives {_described(outputs)}; a generator gives float32 [?, R, R, C], images")
    if not inputs[0].shape[1]:
        raise HubModuleError(f"{origin}: takes {_described(inputs)}; the length of the latents must be known")
    return signature, inputs[0].shape[1]


def _described(tensors: list[Any]) -> str:
    shapes = [x.shape.as_list() if x.shape.rank is not None else "of any shape" for x in tensors]
    described = [f"{x.dtype.name} {shape}".replace("None", "?") for x, shape in zip(tensors, shapes, strict=True)]
    return " and ".join(described) or "nothing"


def _standing_alone(origin: str, signature: Any, latent_size: int) -> _Module:
    frozen = convert_variables_to_constants_v2(signature)
    graph = frozen.graph.as_graph_def()
    _check_pure(origin, graph)
    arrays = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if _is_weight(node)}
    _remove_nodes(graph, set(arrays))
    variables = {f"{name}:0": tf.Variable(array, trainable=False) for name, array in arrays.items()}
    (latents_name,), (images_name,) = ([tensor.name for tensor in end] for end in (frozen.inputs, frozen.outputs))

    @tf.function(input_signature=[tf.TensorSpec([None, latent_size], tf.float32)])
    def draw(latents: tf.Tensor) -> tf.Tensor:
        given = {latents_name: latents} | {name: variable.read_value() for name, variable in variables.items()}
        (images,) = tf.graph_util.import_graph_def(graph, given, [images_name], name="module")
        return images

    return _Module(draw, [arrays[name] for name in _in_order_of_use(graph, images_name) if name in arrays])


def _check_pure(origin: str, graph: Any) -> None:
    """Raises HubModuleError for random numbers, files and the like: a seed must always show the same image."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    impure = [op for op in sorted({node.op for node in nodes}) if _is_impure(op)]
    if impure:
        raise HubModuleError(f"{origin}: draws on more than the latents ({', '.join(impure)}); it cannot be exported")


def _is_impure(op: str) -> bool:
    definition = op_def_registry.get(op)
    return op in _IMPURE or definition is None or (definition.is_stateful and op not in _PURE)


def _is_weight(node: Any) -> bool:
    """A constant of more than one number that nothing conditions."""
    if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum or node.input:
        return False
    return bool(node.attr["value"].tensor.tensor_shape.dim)


def _remove_nodes(graph: Any, names: set[str]) -> None:
    """Their values will be given; nothing needs to wait for them."""
    kept = [node for node in graph.node if node.name not in names]
    del graph.node[:]
    graph.node.extend(kept)
    for node in graph.node:
        waited_for = [name for name in node.input if not (name[0] == "^" and name[1:] in names)]
        del node.input[:]
        node.input.extend(waited_for)
        node.device = ""
        node.attr.pop("_class", None)  # where it was to be placed


def _in_order_of_use(graph: Any, images_name: str) -> list[str]:
    """Names of all that the images are made of: what is applied earlier comes first."""
    inputs = {node.name: [name.lstrip("^").partition(":")[0] for name in node.input] for node in graph.node}
    met: dict[str, None] = {}
    pending = [images_name.partition(":")[0]]
    while pending:
        name = pending.pop()
        if name not in met:
            met[name] = None
            pending += reversed(inputs.get(name, []))
    return list(met)


def _drawn(draw: Draw, latents: Array) -> Array:
    batches = [draw(tf.constant(latents[start : start + _BATCH])) for start in range(0, len(latents), _BATCH)]
    return np.concatenate(batches)


def _check_images(origin: str, images: Array) -> None:
    """Raises HubModuleError unless these can be images of the trial's latents."""
    size, *shape = images.shape
    if size != len(_LENGTHS) or len(shape) != 3:
        raise HubModuleError(
            f"{origin}: gives {list(images.shape)} of {len(_LENGTHS)} latents; images are [N, R, R, C]"
        )
    height, width, channels = shape
    if height != width or height < 4 or not is_power_of_two(height) or channels not in (1, 3):
        raise HubModuleError(
            f"{origin}: gives images {shape}; they must be [R, R, C], R a power of two from 4 on, C 1 or 3"
        )
    if not np.isfinite(images).all():
        raise HubModuleError(f"{origin}: gives images with values that are not finite; it is damaged, or no generator")


def _value_range(origin: str, images: Array) -> str:
    """Of images of plain latents, which may overshoot: generators do not clip."""
    if np.mean(np.abs(images) > 2) > 0.1:
        least, most = np.percentile(images, [5, 95])
        raise HubModuleError(
            f"{origin}: most values of its images lie in {least:.3g}..{most:.3g}, not in 0..1 or -1..1"
        )
    return "-1..1" if np.mean(images < -0.25) > 0.1 else "0..1"


# Conversion


def _convert(weights: list[Array], latents: Array, images: Array) -> tuple[Generator, float]:
    """A generator with these weights that draws these images, -1..1, of these latents, and how far it is off, in 0..1.

    Its last layer takes over what gain and offset the module gives its images, so its bias is not the module's. The
    outputs of earlier resolutions, which these images do not need, are zero.
    Raises _OtherNetworkError when there is no such generator.
    """
    resolution, channels = images.shape[2:]
    trunk, faces = _layers(weights, channels)
    generator = Generator(_network(trunk, latents.shape[1], resolution, channels))
    _assign_trunk(generator, trunk)
    to_rgb, differences = generator.to_rgb[resolution], [np.inf]

    def draw(kernel: Array, bias: Array) -> Array:
        to_rgb.kernel.assign(kernel)
        to_rgb.bias.assign(bias)
        return _drawn(lambda latents: generator(latents, resolution=resolution), latents)

    for kernel in faces:
        gain, offset = _lines(draw(kernel, np.zeros(channels, np.float32)), images)
        differences.append(float(np.abs(draw(gain * kernel, offset) - images).max()) / 2)
        if differences[-1] <= MOST_DIFFERENCE:
            return generator, differences[-1]
    raise _OtherNetworkError(
        f"a generator with its weights draws images that differ by up to {min(differences):.2g}, "
        f"more than {MOST_DIFFERENCE:g}"
    )


def _layers(weights: list[Array], channels: int) -> tuple[list[_Conv], list[Array]]:
    """The convolutions of more than 1x1 in their order, and the kernels of those that could give the images."""
    pairs = [(a, b) for a, b in pairwise(weights) if a.ndim == 4 and b.shape == a.shape[3:]]
    trunk = [_Conv(kernel, bias) for kernel, bias in pairs if kernel.shape[0] > 1]
    if not trunk:
        raise _OtherNetworkError("it has no convolutions with a bias")
    faces = [kernel for kernel, _ in pairs if kernel.shape == (1, 1, trunk[-1].kernel.shape[3], channels)]
    if not faces:
        raise _OtherNetworkError("it has no 1x1 convolution with a bias that could give the images")
    return trunk, faces


def _lines(x: Array, y: Array) -> tuple[Array, Array]:
    """Gain and offset [C], one for each channel, of the lines that come nearest to these points [N, R, R, C]."""
    x_mean, y_mean = (points.mean(axis=(0, 1, 2), dtype=np.float64) for points in (x, y))
    spread = np.square(x - x_mean).mean(axis=(0, 1, 2))
    gain = ((x - x_mean) * y).mean(axis=(0, 1, 2)) / np.maximum(spread, 1e-12)
    return gain.astype(np.float32), (y_mean - gain * x_mean).astype(np.float32)


def _network(trunk: list[_Conv], latent_size: int, resolution: int, channels: int) -> NetworkConfig:
    """The configuration whose generator has these convolutions, toRGB left out."""
    shapes = [conv.kernel.shape for conv in trunk]
    last = shapes[-1][3]
    try:
        for fmap_base in range(last * resolution // 2, (last + 1) * resolution // 2):  # features(resolution) == last
            config = NetworkConfig(resolution, channels, fmap_base=fmap_base, fmap_max=latent_size)
            if shapes == _kernel_shapes(config):
                return config
    except ConfigError as error:
        raise _OtherNetworkError(str(error)) from error
    listed = ", ".join("x".join(map(str, shape)) for shape in shapes)
    raise _OtherNetworkError(f"its kernels are not those of a generator of this size: {listed}")


def _kernel_shapes(config: NetworkConfig) -> list[tuple[int, ...]]:
    """As tensorflow/gan has them: the dense layer is a 4x4 convolution of the latents, one pixel padded by 3."""
    f = config.features
    blocks = [((3, 3, f(r // 2), f(r)), (3, 3, f(r), f(r))) for r in resolutions_up_to(config.resolution)[1:]]
    return [(4, 4, config.latent_size, f(4)), (3, 3, f(4), f(4)), *chain.from_iterable(blocks)]


def _assign_trunk(generator: Generator, trunk: list[_Conv]) -> None:
    block_4x4, first = generator.input_block, trunk[0]
    # Pixel [y, x] of the padded convolution meets the latents at [3 - y, 3 - x] of the kernel.
    dense = first.kernel[::-1, ::-1].transpose(2, 0, 1, 3)  # [latent, y, x, feature]
    block_4x4.dense.kernel.assign(dense.reshape(len(dense), -1))
    block_4x4.bias.assign(first.bias)
    grown = [(block.conv0, block.conv1) for block in generator.blocks.values()]
    for layer, conv in zip((block_4x4.conv, *chain.from_iterable(grown)), trunk[1:], strict=True):
        layer.kernel.assign(conv.kernel)
        layer.bias.assign(conv.bias)
    for layer in generator.to_rgb.values():
        layer.kernel.assign(tf.zeros_like(layer.kernel))
