"""The generator as an ONNX graph, channels first, for the runtimes that read such."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper
from trained import Weights

# [phase, tap, row]: of an image doubled by repetition, the even and the odd rows convolved with 3 rows of a kernel are
# sums of 2 rows of the image.
PHASES = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], np.float32)


class Graph:
    """Operators in their order; every one gives one output, which goes by its name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        """An operator over outputs and constants; the name of its output."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def generator(path: Path) -> bytes:
    """A model: latents float32 [N, L] -> images uint8 [N, R, R, C]."""
    weights, graph = Weights(path), Graph()
    x = first_features(graph, weights)
    x = activate(graph, convolve(graph, x, weights.kernel("4x4/conv"), weights.bias("4x4/conv")))
    for block in weights.blocks:
        x = activate(graph, upscale(graph, x, weights.kernel(f"{block}/conv0"), weights.bias(f"{block}/conv0")))
        x = activate(graph, convolve(graph, x, weights.kernel(f"{block}/conv1"), weights.bias(f"{block}/conv1")))
    x = convolve(graph, x, weights.kernel(weights.to_rgb, gain=1.0), weights.bias(weights.to_rgb))
    return model(graph, to_uint8(graph, x), latent_size=len(weights.dense()))


def first_features(graph: Graph, weights: Weights) -> str:
    x = graph.add("MatMul", pixel_norm(graph, "latents"), weights.dense())
    x = graph.add("Reshape", x, np.array([0, -1, 4, 4]))
    return activate(graph, graph.add("Add", x, weights.bias("4x4").reshape(-1, 1, 1)))


def convolve(graph: Graph, x: str, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    return graph.add("Conv", x, kernel.transpose(3, 2, 0, 1), bias, pads=[kernel.shape[0] // 2] * 4)


def upscale(graph: Graph, x: str, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    """Doubling and convolution at once: 2x2 kernels for the four phases. Both runtimes are faster so than with Resize,
    and not slower than with ConvTranspose."""
    phases = []
    for i, j in np.ndindex(2, 2):
        narrow = np.einsum("ay,bx,yxco->ocab", PHASES[i], PHASES[j], kernel)
        phases.append(graph.add("Conv", x, narrow, bias, pads=[1 - i, 1 - j, i, j]))
    return graph.add("DepthToSpace", graph.add("Concat", *phases, axis=1), blocksize=2)


def activate(graph: Graph, x: str) -> str:
    return pixel_norm(graph, graph.add("LeakyRelu", x, alpha=0.2))


def pixel_norm(graph: Graph, x: str) -> str:
    mean_square = graph.add("ReduceMean", graph.add("Mul", x, x), np.array([1]))
    return graph.add("Div", x, graph.add("Sqrt", graph.add("Add", mean_square, np.float32(1e-8))))


def to_uint8(graph: Graph, x: str) -> str:
    x = graph.add("Add", graph.add("Mul", x, np.float32(127.5)), np.float32(127.5))
    x = graph.add("Clip", graph.add("Round", x), np.float32(0.0), np.float32(255.0))
    return graph.add("Transpose", graph.add("Cast", x, to=TensorProto.UINT8), perm=[0, 2, 3, 1])


def model(graph: Graph, images: str, latent_size: int) -> bytes:
    inputs = [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", latent_size])]
    outputs = [helper.make_tensor_value_info(images, TensorProto.UINT8, ["N", "R", "R", "C"])]
    made = helper.make_graph(graph.nodes, "generator", inputs, outputs, graph.constants)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString()
