"""ONNX Runtime; variant fp32: it has no bfloat16 convolutions for CPUs."""

from pathlib import Path

import onnxruntime
from onnx_graph import generator
from protocol import CPUS, Generate, contend


def build(device: str, variant: str, weights: Path) -> Generate:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CPUS
    session = onnxruntime.InferenceSession(generator(weights), options, providers=["CPUExecutionProvider"])
    return lambda latents: session.run(None, {"latents": latents})[0]


if __name__ == "__main__":
    contend(onnxruntime.__version__, build)
