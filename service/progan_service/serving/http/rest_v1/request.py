"""Predictions in TensorFlow Serving's JSON become arrays. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.errors import InvalidArgument
from progan_service.serving.http.json_values import list_of, parsed, text_of
from progan_service.serving.protocols.tensorflow_serving.servicer import Prediction, Selected
from progan_service.serving.protocols.tensorflow_serving.signatures import INPUT_TYPES, Signature, signature_of


def selected(words: Mapping[str, str]) -> Selected:
    """Return the model that a path names. Raise InvalidArgument for a version that is no number."""
    version = words.get("version", "0")
    if not (version.isascii() and version.isdecimal() and len(version) <= 18):
        raise InvalidArgument("version", f"is {version[:40]!r}; must be a number")
    return Selected(words["model"], int(version), words.get("label", ""))


def prediction(body: bytes, words: Mapping[str, str]) -> tuple[Prediction, bool]:
    """Return what a body asks for, and whether it is in the row format (`instances`). Raise InvalidArgument."""
    content = parsed(body)
    signature = signature_of(text_of(content.get("signature_name", ""), "signature_name"))
    if ("instances" in content) == ("inputs" in content):
        raise InvalidArgument("request", "must have either instances or inputs")
    by_row = "instances" in content
    tensors = _of_rows(content["instances"], signature) if by_row else _of_columns(content["inputs"], signature)
    inputs = {name: _array(name, values) for name, values in tensors.items()}
    return Prediction(selected(words), signature, inputs), by_row


def _of_rows(instances: Any, signature: Signature) -> dict[str, Any]:
    """Return the values of each input, of a list with one value, or one object of values, for each image."""
    rows = list_of(instances, "instances")
    if not rows:
        raise InvalidArgument("instances", "is empty; at least one image must be asked for")
    if not isinstance(rows[0], dict):
        return {signature.rows: rows}
    names = rows[0].keys()
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != names:
            raise InvalidArgument("instances", f"number {place} must be an object with {', '.join(names)[:100]}")
    return {name: [row[name] for row in rows] for name in names}


def _of_columns(inputs: Any, signature: Signature) -> dict[str, Any]:
    return inputs if isinstance(inputs, dict) else {signature.rows: inputs}


def _array(name: str, values: Any) -> NDArray[Any]:
    if name not in INPUT_TYPES:
        raise InvalidArgument("inputs", f"{name[:40]!r} is none; the inputs are {', '.join(INPUT_TYPES)}")
    rows = list_of(values, name)
    return _seeds(rows) if name == "seeds" else _matrix(name, rows)


def _seeds(rows: list[Any]) -> NDArray[np.uint64]:
    """Return seeds [N], of a list of numbers or of lists with one number each."""
    seeds = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in rows]
    if not all(type(seed) is int and 0 <= seed < 2**64 for seed in seeds):
        raise InvalidArgument("seeds", "must be whole numbers from 0 to 2^64 - 1, one for each image")
    return np.array(seeds, np.uint64)


def _matrix(name: str, rows: list[Any]) -> NDArray[np.float32]:
    """Return a matrix float32 [N, columns]. A list of numbers is one row."""
    if rows and not isinstance(rows[0], list):
        rows = [rows]
    if any(not isinstance(row, list) or len(row) != len(rows[0]) for row in rows):
        raise InvalidArgument(name, "must be a list of rows of the same length")
    if any(type(value) not in (int, float) for row in rows for value in row):
        raise InvalidArgument(name, "must be rows of numbers")
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused by its place
            return np.array(rows, np.float32).reshape(len(rows), len(rows[0]) if rows else 0)
    except OverflowError:
        raise InvalidArgument(name, "holds a number that no float can be") from None
