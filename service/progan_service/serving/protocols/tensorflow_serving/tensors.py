"""Tensors of TensorFlow become arrays, and arrays tensors. Pure. Sizes are checked before memory is taken."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.errors import InvalidArgument
from progan_service.serving.protocols.tensorflow_serving.messages import DATA_TYPES
from progan_service.serving.protocols.tensorflow_serving.signatures import INPUT_TYPES

_KINDS = {
    "DT_FLOAT": ("<f4", "float_val"),
    "DT_DOUBLE": ("<f8", "double_val"),
    "DT_HALF": ("<f2", "half_val"),
    "DT_BFLOAT16": ("<u2", "half_val"),
    "DT_INT32": ("<i4", "int_val"),
    "DT_INT64": ("<i8", "int64_val"),
    "DT_UINT32": ("<u4", "uint32_val"),
    "DT_UINT64": ("<u8", "uint64_val"),
}  # by data type: the kind of its values in tensor_content, and the field with a list of them
_FLOATS = ("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16")
_INTEGERS = ("DT_UINT64", "DT_INT64", "DT_INT32", "DT_UINT32")
_MOST_DIMENSIONS = 8
_MOST_FILLED = 2**20  # values of a tensor of which fewer are sent
_NAMES = {value.number: name for name, value in DATA_TYPES.items()}


def read_input(name: str, tensor: Any) -> NDArray[Any]:
    """Return an input: `latents` and `labels` float32 [N, columns], `seeds` uint64 [N]. Raise InvalidArgument."""
    if name not in INPUT_TYPES:
        raise InvalidArgument("inputs", f"{name[:40]!r} is none; the inputs are {', '.join(INPUT_TYPES)}")
    accepted = _INTEGERS if name == "seeds" else _FLOATS
    kind = _NAMES.get(tensor.dtype, str(tensor.dtype))
    if kind not in accepted:
        raise InvalidArgument(name, f"has dtype {kind}; must be {', '.join(accepted)}")
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or not 1 <= len(shape) <= _MOST_DIMENSIONS or min(shape) < 1:
        raise InvalidArgument(name, f"has shape {list(shape)}; every dimension must be at least 1")
    values = _values(name, tensor, kind, shape)
    return _seeds(values) if name == "seeds" else _rows(name, values)


def _values(name: str, tensor: Any, kind: str, shape: Sequence[int]) -> NDArray[Any]:
    numbers, field = np.dtype(_KINDS[kind][0]), _KINDS[kind][1]
    count, given = prod(shape), getattr(tensor, field)
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * numbers.itemsize:
            size = count * numbers.itemsize
            raise InvalidArgument(name, f"has {len(tensor.tensor_content)} bytes; {kind} of {list(shape)} takes {size}")
        values = np.frombuffer(tensor.tensor_content, numbers)
    else:
        values = _listed(name, given, kind, count)
    if kind == "DT_BFLOAT16":
        values = (values.astype("<u4") << 16).view("<f4")
    return np.asarray(values.reshape(shape))


def _listed(name: str, given: Sequence[Any], kind: str, count: int) -> NDArray[Any]:
    """Return the values of a list. The last one stands for those that are missing."""
    if not given:
        raise InvalidArgument(name, "has no values")
    if len(given) > count or (len(given) < count and count > _MOST_FILLED):
        raise InvalidArgument(name, f"has {len(given)} values, and its shape takes {count}")
    if kind in ("DT_HALF", "DT_BFLOAT16"):  # the bits of each value
        values = np.array(given, np.int64).astype("<u2").view(_KINDS[kind][0])
    else:
        values = np.array(given, _KINDS[kind][0])
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))])


def _rows(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    if values.ndim == 1:
        values = values[None]
    if prod(values.shape[2:]) != 1:
        raise InvalidArgument(name, f"has shape {list(values.shape)}; must be [N, columns]")
    with np.errstate(over="ignore"):  # what no float32 can hold becomes infinite, and is refused by its place
        return values.reshape(values.shape[:2]).astype(np.float32, copy=False)


def _seeds(values: NDArray[Any]) -> NDArray[np.uint64]:
    if prod(values.shape[1:]) != 1:
        raise InvalidArgument("seeds", f"has shape {list(values.shape)}; must be [N] or [N, 1]")
    if values.min() < 0:
        raise InvalidArgument("seeds", f"holds {values.min()}; a seed is 0 to 2^64 - 1")
    return values.reshape(-1).astype(np.uint64)


def write_array(tensor: Any, kind: str, values: NDArray[Any]) -> None:
    """Make an empty tensor one of numbers."""
    tensor.dtype, tensor.tensor_content = DATA_TYPES[kind].number, values.tobytes()
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)


def write_files(tensor: Any, files: Sequence[bytes]) -> None:
    """Make an empty tensor one of texts [N]."""
    tensor.dtype = DATA_TYPES["DT_STRING"].number
    tensor.string_val.extend(files)
    tensor.tensor_shape.dim.add(size=len(files))
