"""A caller of TensorFlow Serving's rpcs, whose tensors are made and read by TensorFlow itself."""

from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from progan_service.serving.protocols.tensorflow_serving.messages import (
    MODEL_SERVICE,
    PREDICTION_SERVICE,
    PredictRequest,
    TensorProto,
)

PATIENCE_S = 60
METHODS = {method.name: method for service in (PREDICTION_SERVICE, MODEL_SERVICE) for method in service.methods}


class Tensorflow:
    """Calls rpcs by their names."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])

    def send(self, rpc: str, request: Any) -> Any:
        method = METHODS[rpc]
        path = f"/{method.containing_service.full_name}/{rpc}"
        call = self.channel.unary_unary(path, None, GetMessageClass(method.output_type).FromString)
        return call(request if isinstance(request, bytes) else request.SerializeToString(), timeout=PATIENCE_S)

    def ask(self, rpc: str, **fields: Any) -> Any:
        return self.send(rpc, GetMessageClass(METHODS[rpc].input_type)(**fields))

    def refusal(self, rpc: str, request: Any = None, **fields: Any) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            self.send(rpc, request) if request is not None else self.ask(rpc, **fields)
        error: Any = refused.value
        return f"{error.code().name} {error.details()}"


def tensor(values: Any, dtype: Any = None, shape: Any = None) -> Any:
    import tensorflow as tf

    return TensorProto.FromString(tf.make_tensor_proto(values, dtype, shape).SerializeToString())


def array(message: Any) -> Any:
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto as Tensor

    return tf.make_ndarray(Tensor.FromString(message.SerializeToString()))


def predict(model: str, signature: str = "", version: int = 0, label: str = "", **inputs: Any) -> Any:
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(values if isinstance(values, TensorProto) else tensor(values))
    return request
