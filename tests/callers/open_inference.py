"""A caller of the Open Inference Protocol over gRPC, who knows nothing but the messages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from progan_service.serving.protocols.open_inference.messages import SERVICE, ModelInferRequest

PATIENCE_S = 60

_KINDS = {"<f4": "FP32", "<f2": "FP16", "<f8": "FP64", "<u8": "UINT64", "<i8": "INT64", "<i4": "INT32", "<u4": "UINT32"}


class Caller:
    """Calls rpcs by their names, on a connection of its own."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])

    def ask(self, rpc: str, *, metadata: Any = (), timeout: float = PATIENCE_S, **fields: Any) -> Any:
        """The reply of a unary rpc to a request with these fields."""
        method = SERVICE.methods_by_name[rpc]
        return self.send(rpc, GetMessageClass(method.input_type)(**fields), metadata=metadata, timeout=timeout)

    def send(
        self, rpc: str, request: Any, *, metadata: Any = (), timeout: float = PATIENCE_S, compression: Any = None
    ) -> Any:
        method = SERVICE.methods_by_name[rpc]
        call = self.channel.unary_unary(
            f"/{SERVICE.full_name}/{rpc}",
            type(request).SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )
        return call(request, timeout=timeout, metadata=metadata, compression=compression)

    def refusal(self, rpc: str, request: Any = None, **fields: Any) -> str:
        """The code and text of a refusal."""
        with pytest.raises(grpc.RpcError) as refused:
            self.send(rpc, request) if request is not None else self.ask(rpc, **fields)
        error: Any = refused.value
        return f"{error.code().name} {error.details()}"

    def converse(self, requests: Iterator[Any]) -> Any:
        """The replies of a stream."""
        method = SERVICE.methods_by_name["ModelStreamInfer"]
        reply = GetMessageClass(method.output_type)
        call = self.channel.stream_stream(
            f"/{SERVICE.full_name}/ModelStreamInfer", ModelInferRequest.SerializeToString, reply.FromString
        )
        return call(requests, timeout=PATIENCE_S)


def parameter(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"bool_param": value}
        case int():
            return {"int64_param": value} if value < 2**63 else {"uint64_param": value}
        case float():
            return {"double_param": value}
    return {"string_param": value}


def inference(
    model: str = "",
    version: str = "",
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Any] = {},
    request_id: str = "",
    **inputs: NDArray[Any],
) -> Any:
    """A request with these tensors, their values in raw_input_contents."""
    request = ModelInferRequest(model_name=model, model_version=version, id=request_id)
    for name, array in inputs.items():
        kind = array.dtype.newbyteorder("<").str
        request.inputs.add(name=name, datatype=_KINDS[kind], shape=array.shape)
        request.raw_input_contents.append(array.astype(kind).tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in parameters.items():
        request.parameters[name].MergeFrom(type(request.parameters[name])(**parameter(value)))
    return request


def array_of(reply: Any, name: str) -> NDArray[Any]:
    """An output; for BYTES an array of objects."""
    place = [output.name for output in reply.outputs].index(name)
    output, raw = reply.outputs[place], reply.raw_output_contents[place]
    if output.datatype == "BYTES":
        files = []
        while raw:
            size = int.from_bytes(raw[:4], "little")
            files.append(raw[4 : 4 + size])
            raw = raw[4 + size :]
        return np.array(files, object).reshape(tuple(output.shape))
    kinds = {"UINT8": "u1", "FP32": "<f4"}
    return np.frombuffer(raw, kinds[output.datatype]).reshape(tuple(output.shape))
