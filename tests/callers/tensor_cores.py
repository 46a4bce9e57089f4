"""Products of tensor cores, which keep fewer bits of their factors: what tests allow for, and the same on a CPU.

On GPUs float32 is rounded to TF32, unless NVIDIA_TF32_OVERRIDE=0 forbids it.
"""

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

TF32_BITS, BFLOAT16_BITS = 10, 7  # of a mantissa; float32 has 23
TF32 = bool(tf.config.list_physical_devices("GPU")) and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"

# With all factors cut to TF32, the networks and pictures of the tests keep within these; cut to bfloat16, they do not.
TF32_ATOL = 0.012  # of images in about -1..1, and of scores
TF32_PSNR_DB = 55.0  # of pictures, to golden ones

_FACTORS = {"Conv2D": (0, 1), "Conv2DBackpropInput": (1, 2), "MatMul": (0, 1), "BatchMatMulV2": (0, 1)}


def cut(function: tf.types.experimental.ConcreteFunction, bits: int) -> Callable[..., list[NDArray[Any]]]:
    """Return the function with all factors of its products cut to `bits` of the mantissa: at most so wrong are GPUs.

    It takes the arguments of the function, by position, and returns its outputs as a list.
    """
    frozen = convert_variables_to_constants_v2(function)
    graph, mask = tf.compat.v1.GraphDef(), tf.constant(-(2 ** (23 - bits)))
    graph.CopyFrom(frozen.graph.as_graph_def())
    nodes = list(graph.node)
    _add(graph, "Const", "mask", dtype=tf.int32).attr["value"].tensor.CopyFrom(tf.make_tensor_proto(mask.numpy()))
    for node in nodes:
        for place in _FACTORS.get(node.op, ()):
            node.input[place] = _cut(graph, node.input[place], f"{node.name}/factor_{place}")
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    pruned = imported.prune([each.name for each in frozen.inputs], [each.name for each in frozen.outputs])
    return lambda *arguments: [each.numpy() for each in pruned(*map(tf.constant, arguments))]


def _cut(graph: tf.compat.v1.GraphDef, factor: str, name: str) -> str:
    _add(graph, "Bitcast", f"{name}/bits", factor, T=tf.float32, type=tf.int32)
    _add(graph, "BitwiseAnd", f"{name}/cut", f"{name}/bits", "mask", T=tf.int32)
    return str(_add(graph, "Bitcast", name, f"{name}/cut", T=tf.int32, type=tf.float32).name)


def _add(graph: tf.compat.v1.GraphDef, operation: str, name: str, *inputs: str, **types: tf.DType) -> Any:
    node = graph.node.add(op=operation, name=name, input=inputs)
    for attribute, kind in types.items():
        node.attr[attribute].type = kind.as_datatype_enum
    return node
