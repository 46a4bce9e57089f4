"""Messages of the protocol become JSON as its clients read it, with or without binary data behind it. Pure."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from progan_service.serving.http.rest_v2.request import Asked

_PIECE = 2**16  # values that are written at a time
_KINDS = {"UINT8": "u1", "FP32": "<f4"}


def plain(message: Any) -> dict[str, Any]:
    """Return a message as JSON has it here: all fields by their own names, and 64-bit integers as numbers."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields if _is_there(message, field)}


def _is_there(message: Any, field: FieldDescriptor) -> bool:
    return not field.has_presence or bool(message.HasField(field.name))


def _field(message: Any, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        return {key: plain(value[key]) for key in sorted(value)}
    return [_value(each, field) for each in value] if field.is_repeated else _value(value, field)


def _value(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type:
        return plain(value)
    return field.enum_type.values_by_number[value].name if field.enum_type else value


def inferred(reply: Any, asked: Asked) -> tuple[bytes, Iterator[bytes]]:
    """Return the JSON of a ModelInferResponse and the binary data that follows.

    If no output is binary, the first is empty, and the second yields the JSON piece by piece: that of pixels is long.
    """
    head: dict[str, Any] = {"model_name": reply.model_name, "model_version": reply.model_version}
    if reply.id:
        head["id"] = reply.id
    tensors = [
        {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)} for output in reply.outputs
    ]
    binary = [asked.binary.get(output.name, asked.rest) for output in reply.outputs]
    if not any(binary):
        return b"", _written(head, tensors, reply.raw_output_contents)
    for tensor, raw, is_binary in zip(tensors, reply.raw_output_contents, binary, strict=True):
        if is_binary:
            tensor["parameters"] = {"binary_data_size": len(raw)}
        else:
            tensor.update(json.loads(b"{" + b"".join(_data(tensor, raw)) + b"}"))
    kept = [raw for raw, is_binary in zip(reply.raw_output_contents, binary, strict=True) if is_binary]
    return json.dumps({**head, "outputs": tensors}).encode(), iter(kept)


def _written(head: dict[str, Any], tensors: list[dict[str, Any]], raws: Any) -> Iterator[bytes]:
    yield json.dumps(head).encode()[:-1] + b', "outputs": ['
    for place, (tensor, raw) in enumerate(zip(tensors, raws, strict=True)):
        yield (b", " if place else b"") + json.dumps(tensor).encode()[:-1] + b", "
        yield from _data(tensor, raw)
        yield b"}"
    yield b"]}"


def _data(tensor: dict[str, Any], raw: bytes) -> Iterator[bytes]:
    """Yield the member `data`; files as texts in base64, and a word about that."""
    if tensor["datatype"] == "BYTES":
        texts = [base64.b64encode(element).decode() for element in _elements(raw)]
        yield b'"parameters": {"content_encoding": "base64"}, "data": ' + json.dumps(texts).encode()
        return
    values = np.frombuffer(raw, np.dtype(_KINDS[tensor["datatype"]]))
    yield b'"data": ['
    for start in range(0, len(values), _PIECE):
        piece = json.dumps(values[start : start + _PIECE].tolist(), separators=(",", ":")).encode()
        yield (b"," if start else b"") + piece[1:-1]
    yield b"]"


def _elements(raw: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        yield raw[place + 4 : place + 4 + length]
        place += 4 + length
