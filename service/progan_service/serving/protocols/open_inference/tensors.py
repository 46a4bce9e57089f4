"""Input tensors of the Open Inference Protocol become arrays. Pure. Sizes are checked before memory is taken.

The values of a tensor come in `raw_input_contents`, little-endian, or in the field of `contents` for its datatype.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.errors import InvalidArgument, Unsupported

Array = NDArray[Any]

_TYPES = {  # by datatype; BF16 has no type of its own in NumPy
    "FP16": "<f2",
    "BF16": "<u2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT32": "<u4",
    "UINT64": "<u8",
}
_CONTENTS = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
}
_FLOATS = ("FP32", "FP16", "BF16", "FP64")
_INTEGERS = ("UINT64", "INT64", "INT32", "UINT32")
_ACCEPTED = {"latents": _FLOATS, "seeds": _INTEGERS, "labels": _FLOATS}  # by name of the input
_MOST_DIMENSIONS = 8


def read_inputs(tensors: Sequence[Any], raw: Sequence[bytes]) -> dict[str, Array]:
    """Return the inputs of a request by name: `latents` float32 [N, L], `seeds` uint64 [N], `labels` float32 [N, K].

    tensors   its `inputs`
    raw       its `raw_input_contents`: empty, or one for each input

    Raise InvalidArgument, which names the input, or Unsupported for shared memory.
    """
    if raw and len(raw) != len(tensors):
        raise InvalidArgument("raw_input_contents", f"has {len(raw)} entries for {len(tensors)} inputs")
    inputs: dict[str, Array] = {}
    for place, tensor in enumerate(tensors):
        name = tensor.name
        if name not in _ACCEPTED:
            raise InvalidArgument("inputs", f"{name!r} is no input; the inputs are {', '.join(_ACCEPTED)}")
        if name in inputs:
            raise InvalidArgument(name, "is given twice")
        if "shared_memory_region" in tensor.parameters:
            raise Unsupported(f"{name}: shared memory is not supported; send the values in the request")
        values = _values(tensor, raw[place] if raw else None)
        inputs[name] = _seeds(values) if name == "seeds" else _rows(name, values)
    return inputs


def _values(tensor: Any, raw: bytes | None) -> Array:
    """Return the values in the shape of the tensor."""
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    accepted = _ACCEPTED[name]
    if datatype not in accepted:
        raise InvalidArgument(name, f"has datatype {datatype!r}; must be {', '.join(accepted)}")
    if not shape or len(shape) > _MOST_DIMENSIONS or min(shape) < 1:
        raise InvalidArgument(name, f"has shape {list(shape)}; every dimension must be at least 1")
    if raw is None:
        return _typed(tensor, shape)
    if tensor.HasField("contents"):
        raise InvalidArgument(name, "has both raw_input_contents and contents; give one of them")
    numbers = np.dtype(_TYPES[datatype])
    if len(raw) != prod(shape) * numbers.itemsize:
        expected = prod(shape) * numbers.itemsize
        raise InvalidArgument(name, f"has {len(raw)} bytes; {datatype} of shape {list(shape)} takes {expected}")
    values = np.frombuffer(raw, numbers).reshape(shape)
    return (values.astype("<u4") << 16).view("<f4") if datatype == "BF16" else values


def _typed(tensor: Any, shape: tuple[int, ...]) -> Array:
    name, datatype = tensor.name, tensor.datatype
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidArgument(name, f"of datatype {datatype} comes in raw_input_contents only")
    others = [other.name for other, _ in tensor.contents.ListFields() if other.name != field]
    if others:
        raise InvalidArgument(name, f"has {others[0]}; values of datatype {datatype} come in {field}")
    given = getattr(tensor.contents, field)
    if len(given) != prod(shape):
        raise InvalidArgument(name, f"has {len(given)} values in {field}; shape {list(shape)} takes {prod(shape)}")
    return np.array(given, _TYPES[datatype]).reshape(shape)


def _rows(name: str, values: Array) -> NDArray[np.float32]:
    """Return a matrix: of one row if the tensor is one, and without trailing dimensions of 1 after the second."""
    if values.ndim == 1:
        values = values[None]
    if prod(values.shape[2:]) != 1:
        raise InvalidArgument(name, f"has shape {list(values.shape)}; must be [N, columns]")
    with np.errstate(over="ignore"):  # what no float32 can hold becomes infinite, and is refused by its place
        return values.reshape(values.shape[:2]).astype(np.float32, copy=False)


def _seeds(values: Array) -> NDArray[np.uint64]:
    if prod(values.shape[1:]) != 1:
        raise InvalidArgument("seeds", f"has shape {list(values.shape)}; must be [N] or [N, 1]")
    if values.min() < 0:
        raise InvalidArgument("seeds", f"holds {values.min()}; a seed is 0 to 2^64 - 1")
    return values.reshape(-1).astype(np.uint64)
