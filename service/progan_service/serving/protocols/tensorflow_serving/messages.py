"""The messages and services of tensorflow_serving.proto, in a descriptor pool of their own.

TensorFlow has messages of the same names.
"""

from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from progan_service.serving.protocols.private_pool import private_pool

_POOL = private_pool(__package__, "tensorflow_serving.binpb")

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
