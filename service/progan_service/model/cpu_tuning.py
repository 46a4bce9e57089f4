"""Which algorithm computes which layer soonest on this machine's CPU, found by trying."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from progan_service.model.inference import (
    Arrangement,
    Block,
    Convolution,
    InferenceGenerator,
    Layer,
    LayeredBlock,
    Upscaling,
)
from progan_service.model.layers import EqualizedConv2D
from progan_service.model.minimal_filtering import Array, DifferenceUpscaling, Winograd
from progan_service.model.networks import Generator, GeneratorBlock
from progan_service.model.rows_first import RowsFirstBlock, RowUpscaling, RowWinograd

WORTH_TRYING = 10**8  # multiplications for an image, in the largest layer: below, there is little to gain
_TRIALS = 5
_STRIP_ROWS = 16
_TILES = {
    "float32": (2, 4),
    "bfloat16": (2,),
}  # of Winograd's algorithm along both axes: larger ones round too coarsely
_BATCHES = {  # of images: a call of one counts like many
    Arrangement.BATCH: (1, 4),
    Arrangement.ONE_BY_ONE: (1,),
    Arrangement.ROWS_FIRST: (1, 4),
}


class _Algorithm(NamedTuple):
    """A way to compute a layer of the features [H, W, C] of each image."""

    arrangement: Arrangement
    name: str
    layer: Layer
    shape: list[int]


class _Trial:
    """An algorithm that is tried, turn by turn."""

    def __init__(self, algorithm: _Algorithm, activations: str) -> None:
        self.algorithm = algorithm
        run = tf.function(algorithm.layer, reduce_retracing=True)
        batches = _BATCHES[algorithm.arrangement]
        self._runs = [(images, run, _features(algorithm, images, activations)) for images in batches]
        self._turns: list[list[float]] = []

    def take_turn(self) -> None:
        self._turns.append([_seconds(run, features) / images for images, run, features in self._runs])

    @property
    def seconds(self) -> float:
        """An image: alone and in a batch, on average."""
        _, *turns = self._turns  # the first one is traced
        return float(np.median(turns, axis=0).mean())


_Soonest = Mapping[Arrangement, _Trial]  # of one layer


def tuned_for_cpu(
    network: InferenceGenerator, generator: Generator
) -> tuple[InferenceGenerator, dict[str, str]] | None:
    """The same function by the soonest algorithms, and their names by layer; None where `network` is soonest as it is.

    The blocks from some resolution on take features so arranged as is soonest, and each layer of theirs the algorithm
    that suits it.
    """
    if all(_multiplications(generator.blocks[r], r) < WORTH_TRYING for r in network.blocks):
        return None
    with tf.device("CPU:0"):
        soonest = {r: _soonest_of_block(generator.blocks[r], r, network.activations) for r in network.blocks}
    plans = [(arrangement, first) for arrangement in Arrangement for first in soonest]
    arrangement, first = min(plans, key=lambda plan: _seconds_an_image(soonest, *plan))
    if arrangement is Arrangement.BATCH:
        return None
    chosen = {r: [layer[arrangement].algorithm for layer in block] for r, block in soonest.items() if r >= first}
    names = {
        f"{r}x{r}/{layer}": algorithm.name
        for r, algorithms in chosen.items()
        for layer, algorithm in zip(("conv0", "conv1"), algorithms, strict=True)
    }
    block = RowsFirstBlock if arrangement is Arrangement.ROWS_FIRST else LayeredBlock
    blocks: dict[int, Block] = {r: block(upscaling.layer, conv.layer) for r, (upscaling, conv) in chosen.items()}
    return network.with_last(blocks, arrangement), names


def _multiplications(block: GeneratorBlock, resolution: int) -> int:
    """By definition, of the larger layer."""
    *_, inputs, outputs = block.conv0.kernel.shape
    return int(9 * resolution**2 * max(inputs, outputs) * outputs)


def _seconds_an_image(soonest: Mapping[int, tuple[_Soonest, _Soonest]], arrangement: Arrangement, first: int) -> float:
    """When the blocks from `first` on are so arranged."""
    return sum(
        layer[arrangement if r >= first else Arrangement.BATCH].seconds
        for r, block in soonest.items()
        for layer in block
    )


def _soonest_of_block(block: GeneratorBlock, resolution: int, activations: str) -> tuple[_Soonest, _Soonest]:
    """Of its two layers."""
    upscalings = _upscalings(block.conv0, resolution // 2, activations)
    return _soonest(upscalings, activations), _soonest(_convolutions(block.conv1, resolution, activations), activations)


def _upscalings(layer: EqualizedConv2D, size: int, activations: str) -> list[_Algorithm]:
    """Of [size, size] features."""
    (kernel, bias), shape = _scaled(layer), [size, size, layer.kernel.shape[2]]
    direct = Upscaling(layer, activations)
    differences = DifferenceUpscaling(kernel, bias, activations)
    row_differences = RowUpscaling(kernel, bias, activations)
    return [
        _Algorithm(Arrangement.BATCH, "by phase", direct, shape),
        _Algorithm(Arrangement.ONE_BY_ONE, "by phase", direct, shape),
        _Algorithm(Arrangement.ONE_BY_ONE, "by differences", differences, shape),
        _Algorithm(Arrangement.ROWS_FIRST, "by differences of rows", row_differences, shape),
    ]


def _convolutions(layer: EqualizedConv2D, size: int, activations: str) -> list[_Algorithm]:
    """Of [size, size] features."""
    (kernel, bias), channels = _scaled(layer), layer.kernel.shape[2]
    shape, bordered = [size, size, channels], [size, size + 2, channels]
    direct = Convolution(layer, activations)
    algorithms = [
        _Algorithm(Arrangement.BATCH, "direct", direct, shape),
        _Algorithm(Arrangement.ROWS_FIRST, "Winograd 4x1", RowWinograd(kernel, bias, activations), bordered),
        _Algorithm(Arrangement.ONE_BY_ONE, "direct", direct, shape),
    ]
    for rows in sorted({size, min(size, _STRIP_ROWS)}):
        strips = "" if rows == size else f", {rows} rows"
        for tile in _TILES[activations]:
            winograd = Winograd(kernel, bias, tile, rows, activations)
            algorithms.append(_Algorithm(Arrangement.ONE_BY_ONE, f"Winograd {tile}x{tile}{strips}", winograd, shape))
    return algorithms


def _scaled(layer: EqualizedConv2D) -> tuple[Array, Array]:
    return (layer.kernel * layer.scale).numpy(), layer.bias.numpy()


def _soonest(algorithms: list[_Algorithm], activations: str) -> _Soonest:
    """Of each arrangement."""
    trials = [_Trial(algorithm, activations) for algorithm in algorithms]
    for _ in range(_TRIALS + 1):
        for trial in trials:
            trial.take_turn()
    return {
        arrangement: min(
            (trial for trial in trials if trial.algorithm.arrangement is arrangement), key=lambda trial: trial.seconds
        )
        for arrangement in Arrangement
    }


def _features(algorithm: _Algorithm, images: int, activations: str) -> tf.Tensor:
    height, *others = algorithm.shape
    shape = [height, images, *others] if algorithm.arrangement is Arrangement.ROWS_FIRST else [images, *algorithm.shape]
    return tf.cast(tf.random.normal(shape), activations)


def _seconds(layer: Layer, x: tf.Tensor) -> float:
    started = time.perf_counter()
    layer(x)[0, 0, 0, 0].numpy()
    return time.perf_counter() - started
