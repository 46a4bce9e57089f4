"""Messages of the protocol become JSON as its clients read it, with or without binary data behind it. Pure."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from progan_service.serving.http import json_pieces
from progan_service.serving.http.rest_v2.request import Asked
from progan_service.serving.protocols.open_inference.messages import ModelInferResponse


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


def inferred(message: bytes, asked: Asked) -> tuple[Callable[[], Iterator[bytes]], list[bytes]]:
    """Return what yields the JSON of a ModelInferResponse, in pieces, and the binary data that follow it.

    The JSON of pixels is long. It may be made twice: to know its length beforehand, and to send it.
    """
    reply: Any = ModelInferResponse.FromString(message)
    head: dict[str, Any] = {"model_name": reply.model_name, "model_version": reply.model_version}
    if reply.id:
        head["id"] = reply.id
    binary, tensors = [], []
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        tensor = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if asked.binary.get(output.name, asked.rest):
            binary.append(raw)
            tensors.append(({**tensor, "parameters": {"binary_data_size": len(raw)}}, None))
        else:
            tensors.append((tensor, raw))
    return partial(_written, head, tensors), binary


def _written(head: dict[str, Any], tensors: Sequence[tuple[dict[str, Any], bytes | None]]) -> Iterator[bytes]:
    """Yield the JSON of a reply whose outputs have these members, and these values if they are not binary."""
    yield json.dumps(head).encode()[:-1] + b', "outputs": ['
    for place, (tensor, raw) in enumerate(tensors):
        yield (b", " if place else b"") + json.dumps(tensor).encode()[:-1]
        if raw is not None:
            yield from _data(tensor["datatype"], raw)
        yield b"}"
    yield b"]}"


def _data(datatype: str, raw: bytes) -> Iterator[bytes]:
    """Yield the member `data`; files as texts in base64, and a word about that."""
    if datatype == "BYTES":
        yield b', "parameters": {"content_encoding": "base64"}'
    yield b', "data": ['
    match datatype:
        case "BYTES":
            for place, element in enumerate(_elements(raw)):
                yield b", " if place else b""
                yield from json_pieces.file(element)
        case "UINT8":
            yield from json_pieces.levels(np.frombuffer(raw, np.uint8))
        case "FP32":
            yield from json_pieces.numbers(np.frombuffer(raw, np.dtype("<f4")))
    yield b"]"


def _elements(raw: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        yield raw[place + 4 : place + 4 + length]
        place += 4 + length
