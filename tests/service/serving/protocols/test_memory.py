"""What a request takes while it is parsed is bounded by its bytes, whatever sizes it claims."""

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from any_message import any_message
from hypothesis import given, settings
from hypothesis import strategies as st

from progan_service.serving.errors import ServingError
from progan_service.serving.http.rest_v1.request import prediction
from progan_service.serving.http.rest_v2.request import inference
from progan_service.serving.protocols.open_inference.messages import ModelInferRequest
from progan_service.serving.protocols.open_inference.tensors import read_inputs
from progan_service.serving.protocols.tensorflow_serving.messages import TensorProto
from progan_service.serving.protocols.tensorflow_serving.tensors import read_input

FILLED = 16 * 2**20  # a tensor of which a value is sent may stand for 2^20 values of 8 bytes, which are copied once
SIZES = st.integers(1, 4) | st.sampled_from([0, -1, 2**10, 2**20, 2**40, 2**63 - 1])
NAMES = st.sampled_from(["latents", "seeds", "labels"])


def most_bytes(parse: Callable[[], object]) -> int:
    """How much memory a parser takes at most, whether it refuses or not."""
    tracemalloc.start()
    try:
        with suppress(ServingError):
            parse()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def allowed(sent_bytes: int) -> int:
    return 100_000 + 100 * sent_bytes


OPEN_INFERENCE = any_message(
    ModelInferRequest.DESCRIPTOR,
    {
        "inference.ModelInferRequest.InferInputTensor.name": NAMES,
        "inference.ModelInferRequest.InferInputTensor.datatype": st.sampled_from(["FP32", "UINT64", "FP16", "BYTES"]),
        "inference.ModelInferRequest.InferInputTensor.shape": st.lists(SIZES, max_size=4),
    },
)
TENSORFLOW = any_message(
    TensorProto.DESCRIPTOR,
    {
        "tensorflow.TensorProto.dtype": st.sampled_from([1, 2, 3, 9, 14, 19, 22, 23, 7, 99]),
        "tensorflow.TensorShapeProto.Dim.size": SIZES,
    },
)
NUMBERS = st.lists(st.integers(0, 9) | st.floats() | st.lists(st.floats(), max_size=4), max_size=4)
REST_V2 = st.fixed_dictionaries(
    {
        "name": NAMES,
        "datatype": st.sampled_from(["FP32", "UINT64", "FP64", "INT32", "BYTES"]),
        "shape": st.lists(SIZES, max_size=4),
        "data": NUMBERS,
        "parameters": st.dictionaries(st.just("binary_data_size"), SIZES, max_size=1),
    }
)
REST_V1 = st.fixed_dictionaries({}, optional={"instances": NUMBERS, "inputs": st.dictionaries(NAMES, NUMBERS)})


@settings(max_examples=60)
@given(OPEN_INFERENCE)
def test_of_the_open_inference_protocol(message: Any) -> None:
    took = most_bytes(lambda: read_inputs(message.inputs, message.raw_input_contents))
    assert took < allowed(message.ByteSize())


@settings(max_examples=60)
@given(NAMES, TENSORFLOW)
def test_of_tensorflow_serving(name: str, tensor: Any) -> None:
    assert most_bytes(lambda: read_input(name, tensor)) < FILLED + allowed(tensor.ByteSize())


@settings(max_examples=60)
@given(st.lists(REST_V2, max_size=3), st.sampled_from(["", "1", "9" * 18]))
def test_of_rest_v2(tensors: list[Any], length: str) -> None:
    body = json.dumps({"inputs": tensors}).encode()
    assert most_bytes(lambda: inference(body, length, {"model": "tiny"})) < allowed(len(body))


@settings(max_examples=60)
@given(REST_V1)
def test_of_rest_v1(content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    assert most_bytes(lambda: prediction(body, {"model": "tiny"})) < allowed(len(body))
