"""OpenVINO; variants fp32 and bf16.

A batch is one request. As single images that run beside each other, hint THROUGHPUT, it takes the same time within 5 %.
"""

from pathlib import Path

import openvino
from onnx_graph import generator
from openvino.properties import hint, inference_num_threads
from protocol import CPUS, Generate, contend

PRECISIONS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


def build(device: str, variant: str, weights: Path) -> Generate:
    options = {
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.inference_precision: PRECISIONS[variant],
        inference_num_threads: CPUS,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(generator(weights)), "CPU", options).create_infer_request()
    return lambda latents: request.infer([latents])[0]


if __name__ == "__main__":
    contend(openvino.__version__.split("-")[0], build)
