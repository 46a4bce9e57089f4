"""Inference requests in JSON, with or without binary data behind it, become messages of the protocol. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from progan_service.serving.errors import InvalidArgument
from progan_service.serving.http.json_values import flat, list_of, object_of, parsed, text_of, whole_number
from progan_service.serving.protocols.open_inference.messages import ModelInferRequest

_KINDS = {
    "FP32": "<f4",
    "FP64": "<f8",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT32": "<u4",
    "UINT64": "<u8",
}  # of values that JSON can hold, by datatype
_INT64 = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Asked:
    """A request, and how its outputs are to be written.

    binary   by name of the output, whether it is to be binary
    rest     the same for outputs that are not named
    """

    message: Any
    binary: Mapping[str, bool]
    rest: bool


def inference(body: bytes, header_length: str, words: Mapping[str, str]) -> Asked:
    """Return what a body asks for. Raise InvalidArgument.

    header_length   the header Inference-Header-Content-Length: how long the JSON is; '' if it is the whole body
    words           `model` and perhaps `version`, from the path
    """
    length = _header_length(header_length, len(body))
    content, binary = parsed(body[:length]), memoryview(body)[length:]
    message = ModelInferRequest(model_name=words["model"], model_version=words.get("version", ""))
    message.id = text_of(content.get("id", ""), "id")
    given = object_of(content.get("parameters", {}), "parameters")
    _put(message.parameters, given, "parameters")
    for tensor in list_of(content.get("inputs", []), "inputs"):
        binary = _add_input(message, object_of(tensor, "inputs"), binary)
    if len(binary):
        raise InvalidArgument("request", f"has {len(binary)} bytes of binary data that belong to no input")
    rest = given.get("binary_data_output") is True
    return Asked(message, _add_outputs(message, content, rest), rest)


def _header_length(header: str, most: int) -> int:
    if not header:
        return most
    if not (header.isascii() and header.isdecimal() and len(header) <= 18 and int(header) <= most):
        rule = f"must be a number of bytes, at most the {most} of the body"
        raise InvalidArgument("Inference-Header-Content-Length", f"is {header[:40]!r}; {rule}")
    return int(header)


def _add_input(message: Any, tensor: dict[str, Any], binary: memoryview) -> memoryview:
    """Add an input, and return the binary data that is left for others."""
    name = text_of(tensor.get("name", ""), "inputs.name")
    added = message.inputs.add(name=name, datatype=text_of(tensor.get("datatype", ""), f"{name}.datatype"))
    shape = list_of(tensor.get("shape", []), f"{name}.shape")
    added.shape.extend(whole_number(size, f"{name}.shape", *_INT64) for size in shape)
    parameters = dict(object_of(tensor.get("parameters", {}), f"{name}.parameters"))
    size = parameters.pop("binary_data_size", None)
    _put(added.parameters, parameters, f"{name}.parameters")
    if "shared_memory_region" in added.parameters:
        message.raw_input_contents.append(b"")
        return binary
    if size is None:
        message.raw_input_contents.append(_values(tensor.get("data"), added.datatype, name))
        return binary
    if "data" in tensor:
        raise InvalidArgument(name, "has both data and binary_data_size; give one of them")
    size = whole_number(size, f"{name}.parameters.binary_data_size", 0, len(binary))
    message.raw_input_contents.append(bytes(binary[:size]))
    return binary[size:]


def _values(data: Any, datatype: str, name: str) -> bytes:
    """Return the values of a tensor in JSON as raw bytes."""
    values = flat(data, f"{name}.data")
    if datatype not in _KINDS:  # the servicer refuses most of them
        if datatype in ("FP16", "BF16"):
            raise InvalidArgument(name, f"of datatype {datatype} comes as binary data only")
        return b""
    kind = np.dtype(_KINDS[datatype])
    allowed = {int, float} if kind.kind == "f" else {int}
    if not all(type(value) in allowed for value in values):
        raise InvalidArgument(f"{name}.data", f"must be numbers of datatype {datatype}")
    if kind.kind != "f":
        limits = np.iinfo(kind)
        if values and not (limits.min <= min(values) and max(values) <= limits.max):
            raise InvalidArgument(f"{name}.data", f"must lie between {limits.min} and {limits.max}, as {datatype}")
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused by its place
            return np.array(values, kind).tobytes()
    except OverflowError:
        raise InvalidArgument(f"{name}.data", "holds a number that no float can be") from None


def _add_outputs(message: Any, content: dict[str, Any], rest: bool) -> dict[str, bool]:
    binary = {}
    for output in list_of(content.get("outputs", []), "outputs"):
        name = text_of(object_of(output, "outputs").get("name", ""), "outputs.name")
        parameters = dict(object_of(output.get("parameters", {}), f"{name}.parameters"))
        binary[name] = parameters.pop("binary_data", rest) is True
        parameters.pop("binary_data_size", None)
        _put(message.outputs.add(name=name).parameters, parameters, f"{name}.parameters")
    return binary


def _put(parameters: Any, given: dict[str, Any], what: str) -> None:
    for name, value in given.items():
        name = text_of(name, what)
        match value:
            case bool():
                parameters[name].bool_param = value
            case int() if _INT64[0] <= value <= _INT64[1]:
                parameters[name].int64_param = value
            case int() if 0 <= value < 2**64:
                parameters[name].uint64_param = value
            case float():
                parameters[name].double_param = value
            case str():
                parameters[name].string_param = text_of(value, f"{what}.{name}")
            case _:
                raise InvalidArgument(f"{what}.{name}", "must be a text, a number of 64 bits, true or false")
