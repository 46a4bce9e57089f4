"""Images, versions and signatures become TensorFlow Serving's JSON. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from progan_service.serving.http import json_pieces
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.protocols.tensorflow_serving.servicer import ModelStatus, Predicted
from progan_service.serving.protocols.tensorflow_serving.signatures import INPUT_TYPES, SIGNATURES, Signature
from progan_service.store.metadata import ModelMetadata


def predicted(images: Predicted, signature: Signature, *, by_row: bool) -> Iterator[bytes]:
    """Yield the JSON of a reply, piece by piece: that of pixels is long."""
    yield b'{"predictions": [' if by_row else b'{"outputs": ['
    if signature.is_file:
        for place, file in enumerate(images.files):
            yield b', {"b64": ' if place else b'{"b64": '
            yield from json_pieces.file(file)
            yield b"}"
    else:
        texts = json_pieces.UNIT if signature.dtype == "DT_FLOAT" else json_pieces.LEVELS
        for place in range(len(images.pixels)):
            yield b", [" if place else b"["
            yield from json_pieces.pixels(images.pixels[place], texts)
            yield b"]"
    yield b"]}"


def status(model: ModelStatus) -> dict[str, Any]:
    """Return the state of versions; `name` and `ready` are KServe's."""
    states = [
        {
            "version": str(version.number),
            "state": version.state,
            "status": {"error_code": "UNKNOWN" if version.error else "OK", "error_message": version.error},
        }
        for version in model.versions
    ]
    return {"model_version_status": states, "name": model.name, "ready": model.ready}


def metadata(version: LoadedVersion) -> dict[str, Any]:
    """Return the signatures of a version."""
    signatures = {name: _described(signature, version.metadata) for name, signature in SIGNATURES.items()}
    return {
        "model_spec": {"name": version.name, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _described(signature: Signature, known: ModelMetadata) -> dict[str, Any]:
    inputs = {
        name: _tensor(name, INPUT_TYPES[name], signature.input_shape(name, known)) for name in signature.inputs(known)
    }
    output = _tensor(signature.output, signature.dtype, signature.output_shape(known))
    return {"inputs": inputs, "outputs": {signature.output: output}, "method_name": "tensorflow/serving/predict"}


def _tensor(name: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}
