"""The rpcs of TensorFlow Serving over gRPC: messages to arrays and back. Errors begin with its words."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import numpy as np

from progan_service.serving.errors import FailedPrecondition, InvalidArgument, Unsupported
from progan_service.serving.protocols.tensorflow_serving import messages
from progan_service.serving.protocols.tensorflow_serving.servicer import (
    Predicted,
    Prediction,
    PredictionServicer,
    Selected,
)
from progan_service.serving.protocols.tensorflow_serving.signatures import (
    INPUT_TYPES,
    SIGNATURES,
    Signature,
    signature_of,
)
from progan_service.serving.protocols.tensorflow_serving.tensors import read_input, write_array, write_files
from progan_service.serving.watching.calls import Call
from progan_service.store.metadata import ModelMetadata

_UNIT = (np.arange(256) / 255).astype("<f4")  # by level
_UNKNOWN_CODE = 2
_LARGE_BYTES = 2**20  # of pixels; a reply with more of them is written in a thread, while other calls are answered
_NO_REASON = "this server has no classes, no numbers to predict and no configuration to reload"


class GrpcServicer:
    """Its methods are the rpcs of both services. They raise ServingErrors. Used in the event loop only."""

    def __init__(self, predictions: PredictionServicer) -> None:
        self._predictions = predictions

    async def Predict(self, request: Any, call: Call) -> AsyncIterator[bytes]:
        selected, signature = _selected(request), _signature(request.model_spec.signature_name)
        _check_filter(request.output_filter, signature)
        inputs = {name: read_input(name, tensor) for name, tensor in request.inputs.items()}
        asked = Prediction(selected, signature, inputs)
        del inputs
        async with aclosing(self._predictions.predict(asked, call)) as predicted:
            async for images in predicted:
                write = partial(_reply, images, signature, call)
                data = await asyncio.to_thread(write) if images.pixels.nbytes > _LARGE_BYTES else write()
                del images, write
                yield data

    async def GetModelMetadata(self, request: Any, call: Call) -> Any:
        for field in request.metadata_field:
            if field != "signature_def":
                raise InvalidArgument("metadata_field", f"Metadata field {field[:100]} is not supported")
        version = await self._predictions.metadata(_selected(request), call)
        reply = messages.GetModelMetadataResponse()
        reply.model_spec.name, reply.model_spec.version.value = version.name, version.number
        if request.metadata_field:
            packed = reply.metadata["signature_def"]
            packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
            packed.value = _signatures(version.metadata).SerializeToString()
        return reply

    async def GetModelStatus(self, request: Any, call: Call) -> Any:
        model = await self._predictions.status(_selected(request), call)
        reply = messages.GetModelStatusResponse()
        for version in model.versions:
            added = reply.model_version_status.add(version=version.number, state=version.state)
            added.status.error_code = _UNKNOWN_CODE if version.error else 0
            added.status.error_message = version.error
        return reply

    async def Classify(self, request: Any, call: Call) -> Any:
        raise Unsupported(_NO_REASON)

    Regress = MultiInference = HandleReloadConfigRequest = Classify


def _selected(request: Any) -> Selected:
    if not request.HasField("model_spec"):
        raise InvalidArgument("model_spec", "Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise InvalidArgument("model_spec.name", "ModelSpec has no name specified.")
    if spec.WhichOneof("version_choice") != "version":
        return Selected(spec.name, 0, spec.version_label)
    if spec.version.value < 1:
        raise InvalidArgument("model_spec.version", f"is {spec.version.value}; must be at least 1")
    return Selected(spec.name, spec.version.value)


def _signature(name: str) -> Signature:
    try:
        return signature_of(name)
    except InvalidArgument as error:  # as TensorFlow Serving does over gRPC
        raise FailedPrecondition(str(error)) from None


def _check_filter(names: Sequence[str], signature: Signature) -> None:
    for name in names:
        if name != signature.output:
            text = f"output tensor alias not found in signature: {name[:100]}; there is {signature.output}"
            raise InvalidArgument("output_filter", text)
    if len(names) > 1:
        raise InvalidArgument("output_filter", f"duplicate output tensor alias: {names[0]}")


def _reply(images: Predicted, signature: Signature, call: Call) -> bytes:
    reply = messages.PredictResponse()
    spec = reply.model_spec
    spec.name, spec.version.value, spec.signature_name = call.model, call.version, signature.name
    if signature.is_file:
        write_files(reply.outputs[signature.output], images.files)
    else:
        values = _UNIT[images.pixels] if signature.dtype == "DT_FLOAT" else images.pixels
        write_array(reply.outputs[signature.output], signature.dtype, values)
    data: bytes = reply.SerializeToString()
    return data


def _signatures(metadata: ModelMetadata) -> Any:
    made = messages.SignatureDefMap()
    for name, signature in SIGNATURES.items():
        described = made.signature_def[name]
        described.method_name = "tensorflow/serving/predict"
        for given in signature.inputs(metadata):
            _describe(described.inputs[given], given, INPUT_TYPES[given], signature.input_shape(given, metadata))
        output = described.outputs[signature.output]
        _describe(output, signature.output, signature.dtype, signature.output_shape(metadata))
    return made


def _describe(info: Any, name: str, dtype: str, shape: Sequence[int]) -> None:
    info.name, info.dtype = name, messages.DATA_TYPES[dtype].number
    for size in shape:
        info.tensor_shape.dim.add(size=size)
