"""Images/s of one training step (discriminator with penalty, generator, average).

The rows are resolutions, precisions and kernels. Each one states the arithmetic per image and its share of this
machine's matrix-multiply peak. Steps of all kinds take turns; figures are medians.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from results import Row, digits, publish

from progan_service.host.tensorflow import import_tensorflow
from progan_service.model.config import NetworkConfig
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig

import_tensorflow()
import tensorflow as tf  # noqa: E402
from contenders.precisions import use  # noqa: E402

from progan_service.training.stage import Phase  # noqa: E402
from progan_service.training.state import TrainingState  # noqa: E402
from progan_service.training.step import Step  # noqa: E402

NETWORK = NetworkConfig(64, fmap_base=1024, fmap_max=128)  # of the presets for CPUs
WIDE = NetworkConfig(64)  # the paper's
BATCH = 16
ROUNDS = 7
KINDS = [(precision, fused) for precision in ("fp32", "bf16") for fused in (False, True)]
CONVOLUTIONS = {"Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"}
MATRIX_SIDE = 2048


def main() -> None:
    compare("training", NETWORK, (8, 16, 32, 64), BATCH)
    compare("training-full-size", WIDE, (32,), 4)


def compare(benchmark: str, network: NetworkConfig, resolutions: tuple[int, ...], batch_size: int) -> None:
    rows = [row for resolution in resolutions for row in rates(network, resolution, batch_size)]
    publish(benchmark, rows)


def rates(
    network: NetworkConfig,
    resolution: int,
    batch_size: int,
    kinds: Sequence[tuple[str, bool]] = KINDS,
    side: int = MATRIX_SIDE,
) -> list[Row]:
    """Return a row for each kind of step.

    kinds   precision and whether kernels are fused; float32 products of a process are either fp32 or tf32
    side    of the matrices by which the peak is measured
    """
    runs = {kind: prepared(network, resolution, batch_size, *kind) for kind in kinds}
    peaks = {precision: matrix_multiply(precision, side) for precision, _ in kinds}
    for run, _ in runs.values():
        run()
    times = {kind: [] for kind in [*kinds, *peaks]}
    for _ in range(ROUNDS):
        for kind, run in [*((kind, run) for kind, (run, _) in runs.items()), *peaks.items()]:
            times[kind].append(seconds(run))
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    rows = []
    for kind, (_, flops) in runs.items():
        precision, fused = kind
        peak = 2 * side**3 / medians[precision]
        share = flops / medians[kind] / peak
        note = f"{digits(flops / batch_size / 1e9)} GFLOP per image, {share:.0%} of the peak"
        if fused and (precision, False) in runs:
            note += f", {medians[precision, False] / medians[kind]:.2f} times as fast as plain"
        rows.append(Row(f"{resolution}x{resolution}, {name(kind)}", batch_size / medians[kind], "images/s", note))
    return rows


def name(kind: tuple[str, bool]) -> str:
    return f"{kind[0]} {'fused' if kind[1] else 'plain'}"


def prepared(
    network: NetworkConfig, resolution: int, batch_size: int, precision: str, fused: bool
) -> tuple[Callable[[], Any], float]:
    """Return a training step to call, and its number of floating-point operations."""
    training = TrainingConfig(batch_sizes={4: batch_size}, precision=use(precision), fused_kernels=fused)
    config = RunConfig(DatasetConfig("zeros", 1), replace(network), training)
    step = Step(TrainingState.fresh(config), config, Phase(resolution, 1.0, batch_size, 0.001))
    none = tf.zeros([batch_size, 0])
    batch = (tf.zeros([batch_size, resolution, resolution, network.channels], tf.uint8), none, none)
    arguments = (batch, tf.constant(0, tf.int64), tf.constant(1.0), tf.constant(0.001), tf.constant(0.0))
    graph = step._compiled.get_concrete_function(*arguments).graph
    return lambda: step(batch, 0, 1.0, 0.001)["G"].numpy(), count_flops(graph)


def count_flops(graph: tf.Graph) -> float:
    """Return the operations of the convolutions and matrix products of a graph; a multiply-add counts as two."""
    total = 0.0
    for operation in graph.get_operations():
        if operation.type in CONVOLUTIONS:
            filtering = {"Conv2DBackpropFilter": operation.outputs[0]}.get(operation.type, operation.inputs[1])
            narrow = operation.outputs[0] if operation.type == "Conv2D" else operation.inputs[2]
            total += 2.0 * math.prod(narrow.shape) * math.prod(filtering.shape[:3])
        elif operation.type == "MatMul":
            left = operation.inputs[0].shape
            inner = left[0] if operation.get_attr("transpose_a") else left[1]
            total += 2.0 * math.prod(operation.outputs[0].shape) * inner
    return total


@cache
def matrix_multiply(precision: str, side: int) -> Callable[[], Any]:
    matrix = tf.cast(tf.random.normal([side, side]), use(precision))
    multiply = tf.function(lambda x: tf.reduce_sum(tf.matmul(x, x)[0]))
    multiply(matrix)
    return lambda: multiply(matrix).numpy()


def seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
