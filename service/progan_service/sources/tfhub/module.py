"""A TF Hub module as a source: a generator of our own where its weights are those of one, else the module as it is.

The module's graph is taken out of TensorFlow's loader with its weights as constants, which then become variables
again. What is left is a function of the latents alone that gives the module's images to the bit and can be saved,
whatever kind of variables the module has: those of 2018, reference variables, a `tf.saved_model.save` would lose.

A module gives images in 0..1, as google/progan-128 does, or in -1..1: see `value_range`. Its graph is a program: load
modules that you trust.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from progan_service.checks import is_power_of_two
from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.sources.tfhub.conversion import (
    BATCH,
    MOST_DIFFERENCE,
    Array,
    Draw,
    OtherNetworkError,
    convert,
    draw_all,
)
from progan_service.sources.tfhub.fetch import Fetched
from progan_service.sources.tfhub.limits import HubModuleError
from progan_service.sources.tfhub.value_range import Bounds, bounds_of
from progan_service.sources.tfhub.value_range import value_range as find_value_range

TF1_HUB_MARK = "tfhub_module.pb"
SIGNATURES = ("default", "serving_default")  # the first of them that there is, else the only one

_PLAIN = 8  # of the 16 latents that a module is tried with are as drawn; the others are shorter or longer
_LENGTHS = np.repeat([1.0, 0.1, 10.0], [_PLAIN, 4, 4])[:, None].astype(np.float32)
_LICENSE = "stated on the page of the module; unknown here"
# TensorFlow counts these as stateful, though what they call may not be, and these as stateless, though they reach out.
_PURE = {"Assert", "Case", "If", "StatefulPartitionedCall", "While"}
_IMPURE = {"MatchingFiles", "PyFuncStateless", "ReadFile"}


@dataclass(frozen=True)
class _Module:
    """The function of a module, independent of TensorFlow's loader.

    weights   its float32 arrays of more than one number, in the order in which the latents are multiplied by them
    bounds    of its images
    """

    draw: Draw
    weights: list[Array]
    bounds: Bounds


def load_hub_module(fetched: Fetched, value_range: str = "") -> Exportable | TrainedGenerator:
    """Return the generator of a module; its files are not needed afterwards. `value_range` is a key of RANGES or "".

    It is a TrainedGenerator if a generator of ours with the same weights draws the same images within
    MOST_DIFFERENCE. Otherwise it is the module itself, wrapped.
    The provenance contains the origin and SHA-256 of the module, the "value_range" of its images and its reason, and
    the "form": "converted", with the greatest "difference" found, or "wrapped", with the "reason".
    Raises HubModuleError unless it is a generator of finite images [N, R, R, C] from latents [N, L] alone.
    """
    with _quiet(), _full_precision():
        module, latents, images = _load(fetched)
        found = find_value_range(fetched.origin, value_range, module.bounds, images[:_PLAIN])
        gain, offset = found.gain, found.offset
        provenance = {
            "source": "tfhub",
            "origin": fetched.origin,
            "sha256": fetched.sha256,
            "license": _LICENSE,
            "value_range": found.name,
            "value_range_reason": found.reason,
        }
        resolution, channels = images.shape[2:]
        try:
            generator, difference = convert(
                module.weights, latents, gain * images + offset, clipped=module.bounds.clips
            )
        except OtherNetworkError as reason:
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
    """Silence TensorFlow's warnings of reference variables, which matter for training only."""
    logger: logging.Logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Switch off TF32 on GPUs. It makes the same image differ by more than MOST_DIFFERENCE."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)


@contextmanager
def _failing_as(problem: str) -> Iterator[None]:
    """Raise every error of a foreign graph, whatever its type, as HubModuleError."""
    try:
        yield
    except HubModuleError:
        raise
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        raise HubModuleError(f"{problem} ({first_line[:300]})") from error


# Loading


def _load(fetched: Fetched) -> tuple[_Module, Array, Array]:
    """Return the module, the latents that it was tested with, and its images of them."""
    origin = fetched.origin
    tags: list[str] | None = [] if (fetched.directory / TF1_HUB_MARK).is_file() else None
    with _failing_as(f"{origin}: TensorFlow cannot load it"):
        loaded = tf.saved_model.load(str(fetched.directory), tags=tags)
    signature, latent_size = _signature(origin, dict(loaded.signatures))
    latents = latents_from_seeds(seed_range(0, len(_LENGTHS)), latent_size) * _LENGTHS
    with _failing_as(f"{origin}: it cannot draw images"):
        module = _standing_alone(origin, signature, latent_size)
        images = draw_all(module.draw, latents)
        alone = draw_all(module.draw, latents[:1])
        (given,) = signature(tf.constant(latents[:BATCH])).values()
    _check_images(origin, images)
    if np.abs(alone - images[:1]).max() > MOST_DIFFERENCE:
        raise HubModuleError(f"{origin}: an image depends on those drawn with it; it must depend on its latents alone")
    if np.abs(given - images[:BATCH]).max() > MOST_DIFFERENCE:
        raise HubModuleError(f"{origin}: its graph draws other images outside of the module; it cannot be exported")
    return module, latents, images


def _signature(origin: str, signatures: dict[str, Any]) -> tuple[Any, int]:
    """Return the signature that draws images, and the length of its latents."""
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
    (latents_name,), (images_name,) = ([tensor.name for tensor in end] for end in (frozen.inputs, frozen.outputs))
    bounds = bounds_of(graph, images_name)
    arrays = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if _is_weight(node)}
    _remove_nodes(graph, set(arrays))
    variables = {f"{name}:0": tf.Variable(array, trainable=False) for name, array in arrays.items()}

    @tf.function(input_signature=[tf.TensorSpec([None, latent_size], tf.float32)])
    def draw(latents: tf.Tensor) -> tf.Tensor:
        given = {latents_name: latents} | {name: variable.read_value() for name, variable in variables.items()}
        (images,) = tf.graph_util.import_graph_def(graph, given, [images_name], name="module")
        return images

    weights = [arrays[name] for name in _in_order_of_use(graph, images_name) if name in arrays]
    return _Module(draw, weights, bounds)


def _check_pure(origin: str, graph: Any) -> None:
    """Raise HubModuleError for operations such as random numbers or files: a seed must always give the same image."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    impure = [op for op in sorted({node.op for node in nodes}) if _is_impure(op)]
    if impure:
        raise HubModuleError(f"{origin}: draws on more than the latents ({', '.join(impure)}); it cannot be exported")


def _is_impure(op: str) -> bool:
    definition = op_def_registry.get(op)
    return op in _IMPURE or definition is None or (definition.is_stateful and op not in _PURE)


def _is_weight(node: Any) -> bool:
    """Return true for a constant of more than one number without control inputs."""
    if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum or node.input:
        return False
    return bool(node.attr["value"].tensor.tensor_shape.dim)


def _remove_nodes(graph: Any, names: set[str]) -> None:
    """Remove nodes whose values will be given, and the control inputs that refer to them."""
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
    """Return the names of all nodes that the images depend on, in the order in which they are applied."""
    inputs = {node.name: [name.lstrip("^").partition(":")[0] for name in node.input] for node in graph.node}
    met: dict[str, None] = {}
    pending = [images_name.partition(":")[0]]
    while pending:
        name = pending.pop()
        if name not in met:
            met[name] = None
            pending += reversed(inputs.get(name, []))
    return list(met)


def _check_images(origin: str, images: Array) -> None:
    """Raise HubModuleError unless these can be the images of the test latents."""
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
