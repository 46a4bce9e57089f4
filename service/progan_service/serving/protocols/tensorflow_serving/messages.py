"""The messages and services of tensorflow_serving.proto, in a descriptor pool of their own.

TensorFlow has messages of the same names.
"""

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    compiled = files(__package__).joinpath("tensorflow_serving.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return pool


_POOL = _pool()

PREDICTION_SERVICE: ServiceDescriptor = _POOL.FindServiceByName("tensorflow.serving.PredictionService")
MODEL_SERVICE: ServiceDescriptor = _POOL.FindServiceByName("tensorflow.serving.ModelService")


def _message(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"tensorflow.{name}"))


TensorProto = _message("TensorProto")
SignatureDefMap = _message("serving.SignatureDefMap")
PredictRequest = _message("serving.PredictRequest")
PredictResponse = _message("serving.PredictResponse")
GetModelMetadataRequest = _message("serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("serving.GetModelStatusRequest")
GetModelStatusResponse = _message("serving.GetModelStatusResponse")

DATA_TYPES = _POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name
