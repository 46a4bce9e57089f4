"""Finds the fastest algorithm of each layer on this machine's CPU by timing all of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from progan_service.model.inference.generator import (
    Arrangement,
    Block,
    Convolution,
    InferenceGenerator,
    Layer,
    LayeredBlock,
    Upscaling,
)
from progan_service.model.inference.minimal_filtering import Array, DifferenceUpscaling, Winograd
from progan_service.model.inference.rows_first import RowConvolution, RowsFirstBlock, RowUpscaling, RowWinograd
from progan_service.model.layers import EqualizedConv2D
from progan_service.model.networks import Generator, GeneratorBlock
from progan_service.progress import Progress

WORTH_TRYING = 10**8  # multiplications per image in the largest layer; smaller networks gain little
_TURNS = 8  # the first one includes tracing and does not count
_TURNS_OF_THE_SLOW = 3  # for algorithms that are then so many times as slow as the fastest one of the layer:
_SLOW = 3.0
_STRIP_ROWS = 16
_TILES = {"float32": (2, 4), "bfloat16": (2,)}  # along both axes; rounding errors of larger ones are too large
_BATCHES = {  # sizes that are timed; single images count as much as batches
    Arrangement.BATCH: (1, 4),
    Arrangement.ONE_BY_ONE: (1,),
    Arrangement.ROWS_FIRST: (1, 4),
}


class Algorithm(NamedTuple):
    """A way to compute a layer. `shape` is [H, W, C] of its input features for one image."""

    arrangement: Arrangement
    name: str
    layer: Layer
    shape: list[int]


class Trial:
    """The timing of one algorithm, turn by turn."""

    def __init__(self, algorithm: Algorithm, activations: str) -> None:
        self.algorithm = algorithm
        self._run = tf.function(algorithm.layer, reduce_retracing=True)
        self._activations = activations
        self._turns: list[list[float]] = []

    def take_turn(self) -> None:
        """Time the algorithm once at each batch size."""
        batches = _BATCHES[self.algorithm.arrangement]
        self._turns.append([_seconds(self._run, self._inputs(images)) / images for images in batches])

    def _inputs(self, images: int) -> tf.Tensor:
        """Make the input of one turn. At 1024x1024 memory cannot hold the inputs of all algorithms at once."""
        height, *others = self.algorithm.shape
        rows_first = self.algorithm.arrangement is Arrangement.ROWS_FIRST
        return tf.ones([height, images, *others] if rows_first else [images, height, *others], self._activations)

    @property
    def seconds(self) -> float:
        """Seconds per image, averaged over the batch sizes. The fastest turn counts: other work only adds time."""
        _, *turns = self._turns
        return float(np.min(turns, axis=0).mean())


class _Turns:
    """Counts the turns of all layers of so many blocks."""

    def __init__(self, stage: str, blocks: int, progress: Progress) -> None:
        self._stage, self._done, self._total, self._progress = stage, 0, 2 * blocks * _TURNS, progress

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._stage, self._done, self._total)


_Fastest = Mapping[Arrangement, Trial]  # the fastest algorithm of one layer for each arrangement
_Chosen = Mapping[int, Sequence[Algorithm]]  # by resolution, the algorithms of conv0 and conv1


def tuned_for_cpu(
    network: InferenceGenerator, generator: Generator, progress: Progress = lambda *_: None
) -> tuple[InferenceGenerator, dict[str, str]] | None:
    """Return the same function by the fastest algorithms, and their names by layer; None if `network` is the fastest.

    The blocks from some resolution on take their features in the fastest arrangement, and each of their layers uses the
    fastest algorithm for it.
    """
    if all(_multiplications(generator.blocks[r], r) < WORTH_TRYING for r in network.blocks):
        return None
    turns = _Turns(f"trying algorithms in {network.activations}", len(network.blocks), progress)
    with tf.device("CPU:0"):
        fastest = {
            r: [_fastest(of_layer) for of_layer in time_algorithms(block, r, network.activations, turns).values()]
            for r, block in generator.blocks.items()
            if r in network.blocks
        }
    plans = [(arrangement, first) for arrangement in Arrangement for first in fastest]
    arrangement, first = min(plans, key=lambda plan: _seconds_per_image(fastest, *plan))
    if arrangement is Arrangement.BATCH:
        return None
    chosen = {r: [layer[arrangement].algorithm for layer in block] for r, block in fastest.items() if r >= first}
    return network.with_last(_blocks(chosen, arrangement, network.epsilon), arrangement), _names(chosen)


def _blocks(chosen: _Chosen, arrangement: Arrangement, epsilon: float) -> dict[int, Block]:
    block = RowsFirstBlock if arrangement is Arrangement.ROWS_FIRST else LayeredBlock
    return {r: block(upscaling.layer, conv.layer, epsilon) for r, (upscaling, conv) in chosen.items()}


def _names(chosen: _Chosen) -> dict[str, str]:
    return {
        f"{r}x{r}/{layer}": algorithm.name
        for r, algorithms in chosen.items()
        for layer, algorithm in zip(("conv0", "conv1"), algorithms, strict=True)
    }


def _multiplications(block: GeneratorBlock, resolution: int) -> int:
    """Return the multiplications per image of direct convolution in the larger layer of a block."""
    *_, inputs, outputs = block.conv0.kernel.shape
    return int(9 * resolution**2 * max(inputs, outputs) * outputs)


def _seconds_per_image(fastest: Mapping[int, Sequence[_Fastest]], arrangement: Arrangement, first: int) -> float:
    """Return the time of all blocks if those from `first` on use this arrangement."""
    return sum(
        layer[arrangement if r >= first else Arrangement.BATCH].seconds
        for r, block in fastest.items()
        for layer in block
    )


def time_algorithms(
    block: GeneratorBlock, resolution: int, activations: str, after_turn: Callable[[], None] = lambda: None
) -> dict[str, list[Trial]]:
    """Time all algorithms of the layers of a block, by layer name. The algorithms of a layer take turns."""
    layers = {
        "conv0": _upscalings(block.conv0, resolution // 2, activations),
        "conv1": _convolutions(block.conv1, resolution, activations),
    }
    trials = {name: [Trial(one, activations) for one in algorithms] for name, algorithms in layers.items()}
    for of_layer in trials.values():
        for turn in range(_TURNS):
            for trial in of_layer if turn < _TURNS_OF_THE_SLOW else _without_slow(of_layer):
                trial.take_turn()
            after_turn()
    return trials


def _without_slow(trials: Sequence[Trial]) -> list[Trial]:
    fastest = min(trial.seconds for trial in trials)
    return [trial for trial in trials if trial.seconds <= _SLOW * fastest]


def _fastest(trials: Sequence[Trial]) -> _Fastest:
    return {
        arrangement: min(
            (trial for trial in trials if trial.algorithm.arrangement is arrangement), key=lambda trial: trial.seconds
        )
        for arrangement in Arrangement
    }


def _upscalings(layer: EqualizedConv2D, size: int, activations: str) -> list[Algorithm]:
    """Return the algorithms of conv0 for features of [size, size]."""
    (kernel, bias), shape = _scaled(layer), [size, size, layer.kernel.shape[2]]
    direct = Upscaling(layer, activations)
    differences = DifferenceUpscaling(kernel, bias, activations)
    row_differences = RowUpscaling(kernel, bias, activations)
    return [
        Algorithm(Arrangement.BATCH, "by phase", direct, shape),
        Algorithm(Arrangement.ONE_BY_ONE, "by phase", direct, shape),
        Algorithm(Arrangement.ONE_BY_ONE, "by differences", differences, shape),
        Algorithm(Arrangement.ROWS_FIRST, "by differences of rows", row_differences, shape),
    ]


def _convolutions(layer: EqualizedConv2D, size: int, activations: str) -> list[Algorithm]:
    """Return the algorithms of conv1 for features of [size, size]."""
    (kernel, bias), channels = _scaled(layer), layer.kernel.shape[2]
    shape, bordered = [size, size, channels], [size, size + 2, channels]
    direct = Convolution(layer, activations)
    algorithms = [
        Algorithm(Arrangement.BATCH, "direct", direct, shape),
        Algorithm(Arrangement.ROWS_FIRST, "direct", RowConvolution(direct), bordered),
        Algorithm(Arrangement.ROWS_FIRST, "Winograd 4x1", RowWinograd(kernel, bias, activations), bordered),
        Algorithm(Arrangement.ONE_BY_ONE, "direct", direct, shape),
    ]
    for rows in sorted({size, min(size, _STRIP_ROWS)}):
        strips = "" if rows == size else f", {rows} rows"
        for tile in _TILES[activations]:
            winograd = Winograd(kernel, bias, tile, rows, activations)
            algorithms.append(Algorithm(Arrangement.ONE_BY_ONE, f"Winograd {tile}x{tile}{strips}", winograd, shape))
    return algorithms


def _scaled(layer: EqualizedConv2D) -> tuple[Array, Array]:
    return (layer.kernel * layer.scale).numpy(), layer.bias.numpy()


def _seconds(layer: Layer, x: tf.Tensor) -> float:
    started = time.perf_counter()
    layer(x)[0, 0, 0, 0].numpy()
    return time.perf_counter() - started
