"""Which algorithm computes which layer soonest on this machine's CPU, found by trying."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from progan_service.model.inference import InferenceGenerator, Layer
from progan_service.model.layers import EqualizedConv2D
from progan_service.model.minimal_filtering import Array, DifferenceUpscaling, Winograd
from progan_service.model.networks import Generator, GeneratorBlock

WORTH_TRYING = 10**8  # multiplications for an image, in the largest layer: below, batches gain more
_BATCH = 4
_TRIALS = 5
_STRIP_ROWS = 16
_TILES = {"float32": (2, 4), "bfloat16": (2,)}  # larger ones round too coarsely


@dataclass(frozen=True)
class _Choice:
    """The soonest of some layers that take one image at a time; and how long an image takes in a batch, without them.

    Both in seconds an image.
    """

    algorithm: str
    layer: Layer
    one_by_one_s: float
    batched_s: float


def tuned_for_cpu(
    network: InferenceGenerator, generator: Generator
) -> tuple[InferenceGenerator, dict[str, str]] | None:
    """The same function by the soonest algorithms, and their names by layer; None where `network` is soonest as it is.

    The blocks from some resolution on take one image at a time, and each layer of theirs the algorithm that suits it.
    """
    if all(_multiplications(generator.blocks[r], r) < WORTH_TRYING for r in network.blocks):
        return None
    with tf.device("CPU:0"):
        choices = {
            r: _choices(layers, generator.blocks[r], r, network.activations) for r, layers in network.blocks.items()
        }
    first = min((*choices, None), key=lambda first: _seconds_an_image(choices, first))
    if first is None:
        return None
    chosen = {r: block for r, block in choices.items() if r >= first}
    names = {f"{r}x{r}/{name}": choice.algorithm for r, block in chosen.items() for name, choice in block.items()}
    layers = {r: (block["conv0"].layer, block["conv1"].layer) for r, block in chosen.items()}
    return network.with_one_by_one(layers), names


def _multiplications(block: GeneratorBlock, resolution: int) -> int:
    """By definition, of the larger layer."""
    *_, inputs, outputs = block.conv0.kernel.shape
    return int(9 * resolution**2 * max(inputs, outputs) * outputs)


def _seconds_an_image(choices: Mapping[int, Mapping[str, _Choice]], first: int | None) -> float:
    """When the blocks from `first` on take one image at a time; None: no block does."""
    return sum(
        choice.batched_s if first is None or r < first else choice.one_by_one_s
        for r, block in choices.items()
        for choice in block.values()
    )


def _choices(
    layers: tuple[Layer, Layer], block: GeneratorBlock, resolution: int, activations: str
) -> dict[str, _Choice]:
    upscaling, conv = layers
    half = resolution // 2
    kernel, bias = _scaled(block.conv0)
    upscalings: dict[str, Layer] = {
        "by phase": upscaling,
        "by differences": DifferenceUpscaling(kernel, bias, activations),
    }
    kernel, bias = _scaled(block.conv1)
    convs: dict[str, Layer] = {"direct": conv}
    for tile in _TILES[activations]:
        convs[f"Winograd {tile}x{tile}"] = Winograd(kernel, bias, tile, resolution, activations)
        if resolution > _STRIP_ROWS:
            strips = Winograd(kernel, bias, tile, _STRIP_ROWS, activations)
            convs[f"Winograd {tile}x{tile}, {_STRIP_ROWS} rows"] = strips
    return {
        "conv0": _soonest(upscaling, upscalings, [half, half, block.conv0.kernel.shape[2]], activations),
        "conv1": _soonest(conv, convs, [resolution, resolution, block.conv1.kernel.shape[2]], activations),
    }


def _scaled(layer: EqualizedConv2D) -> tuple[Array, Array]:
    return (layer.kernel * layer.scale).numpy(), layer.bias.numpy()


def _soonest(as_it_is: Layer, candidates: Mapping[str, Layer], shape: list[int], activations: str) -> _Choice:
    """`shape` [H, W, C] and type of the features that the layers take."""
    one, several = (tf.cast(tf.random.normal([n, *shape]), activations) for n in (1, _BATCH))
    runs = {name: (tf.function(layer, reduce_retracing=True), one) for name, layer in candidates.items()}
    batched = tf.function(as_it_is), several
    times: dict[str, list[float]] = {name: [] for name in runs}
    batched_times = []
    for _ in range(_TRIALS + 1):
        for name, run in runs.items():
            times[name].append(_seconds(*run))
        batched_times.append(_seconds(*batched) / _BATCH)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first time is traced
    name = min(medians, key=medians.__getitem__)
    return _Choice(name, candidates[name], medians[name], statistics.median(batched_times[1:]))


def _seconds(layer: Layer, x: tf.Tensor) -> float:
    started = time.perf_counter()
    layer(x)[0, 0, 0, 0].numpy()
    return time.perf_counter() - started
