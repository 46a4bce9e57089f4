"""Inference requests become jobs, or an InvalidArgument that names the input or parameter. Pure."""

import time
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from progan_service.latents.walks import WalkPath
from progan_service.serving.batching.work import Priority
from progan_service.serving.errors import InvalidArgument, Unsupported, naming
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format, of_quality
from progan_service.serving.jobs.job import Job
from progan_service.serving.jobs.rows import Rows, of_label_names, of_labels, of_range, of_rows, of_seeds
from progan_service.serving.jobs.walks import of_walk
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.protocols.open_inference.parameters import Parameters
from progan_service.serving.protocols.open_inference.tensors import Array, read_inputs
from progan_service.store.metadata import ModelMetadata

OUTPUTS = ("images", "files", "latents")

_UINT32, _UINT64 = 2**32 - 1, 2**64 - 1
_LONGEST_TIMEOUT_US = 10**15


@dataclass(frozen=True)
class Inference:
    """What a request asks for.

    outputs         in the order of the reply
    is_walk         whether the images are the frames of a walk, which a stream sends one by one
    final_response  whether the last reply is to be marked
    """

    job: Job
    outputs: tuple[str, ...]
    is_walk: bool
    final_response: bool


def selection(name: str, version: str, label: str = "") -> tuple[str, int, str]:
    """Return name, number and label of the selected version, 0 and '' for what is not given.

    The version of this protocol is a text: a number, a label or nothing. Raise InvalidArgument.
    """
    if version.isascii() and version.isdecimal():
        if len(version) > 18:
            raise InvalidArgument("model_version", f"is {version}; no version has so high a number")
        return name, int(version), label
    if version and label:
        raise InvalidArgument("parameters.version_label", f"is {label!r}, and model_version {version!r}: give one")
    return name, 0, version or label


def deadline(parameters: Parameters, deadline: float) -> float:
    """Return the earlier one of the call's deadline and of the parameter `timeout`, which is in microseconds."""
    timeout_us = parameters.number("timeout", _LONGEST_TIMEOUT_US)
    return min(deadline, time.monotonic() + timeout_us / 1e6) if timeout_us else deadline


def inference(
    request: Any, parameters: Parameters, version: LoadedVersion, max_key_frames: int, deadline: float
) -> Inference:
    """Return what a ModelInferRequest asks for. Raise InvalidArgument, FailedPrecondition or Unsupported."""
    inputs = read_inputs(request.inputs, request.raw_input_contents)
    is_walk, frames_between = _walk(parameters)
    with naming(rows="latents", columns="latents", values="latents", count="parameters.count"):
        keys = _latents(inputs, parameters, version.metadata)
    with naming(key_frames="latents"):
        rows = _frames(keys, parameters, frames_between, max_key_frames) if is_walk else keys
    with naming(columns="labels", values="labels"):
        given = _labels(inputs, parameters, version.metadata)
        labels = of_labels(given, version.metadata, keys.count, frames_between)
    outputs = _outputs(request, parameters)
    chosen = _format(parameters, outputs)
    final = request.parameters.get("triton_enable_empty_final_response")
    priority, even = _priority(parameters), _is_even(parameters)
    job = Job(version, rows, labels, chosen, deadline, priority, pixels="images" in outputs, even=even)
    return Inference(job, outputs, is_walk, bool(final and final.bool_param))


def _latents(inputs: dict[str, Array], parameters: Parameters, metadata: ModelMetadata) -> Rows:
    """Return the rows. Seeds win over latents: load generators send whatever inputs a model declares."""
    size = metadata.latent_size
    latents, seeds = inputs.get("latents"), inputs.get("seeds")
    if seeds is None and latents is None:
        if "seed" not in parameters:
            raise InvalidArgument("inputs", "has neither latents nor seeds, and there is no parameter seed; give one")
        return of_range(parameters.number("seed", _UINT64), parameters.number("count", _UINT32, default=1), size)
    for name in ("seed", "count"):
        if name in parameters:
            raise parameters.wrong(name, "is for requests without latents and seeds")
    if seeds is None:
        return of_rows(latents, size)  # type: ignore[arg-type]
    if latents is not None and len(latents) != len(seeds):
        raise InvalidArgument("seeds", f"has {len(seeds)} rows, and latents {len(latents)}; both must have the same")
    return of_seeds(seeds, size)


def _walk(parameters: Parameters) -> tuple[bool, int]:
    """Return whether a walk is asked for, and the number of frames between two key frames."""
    frames_between = parameters.number("frames_between", _UINT32)
    named = "path" in parameters or "pace" in parameters
    return bool(frames_between or named or parameters.flag("loop")), frames_between


def _is_even(parameters: Parameters) -> bool:
    pace = parameters.text("pace").lower() or "uniform"
    if pace not in ("uniform", "even"):
        raise parameters.wrong("pace", "must be uniform or even")
    return pace == "even"


def _frames(keys: Rows, parameters: Parameters, frames_between: int, max_key_frames: int) -> Rows:
    asked, paths = parameters.text("path").lower() or "spherical", get_args(WalkPath)
    path: WalkPath | None = next((path for path in paths if path == asked), None)
    if path is None:
        raise parameters.wrong("path", f"must be {', '.join(paths[:-1])} or {paths[-1]}")
    return of_walk(keys, frames_between, max_key_frames, path=path, loop=parameters.flag("loop"))


def _labels(inputs: dict[str, Array], parameters: Parameters, metadata: ModelMetadata) -> NDArray[np.float32] | None:
    """Return the labels of the input `labels`, or one row for the labels that the parameter `label` names."""
    if "label" not in parameters:
        return inputs.get("labels")
    if "labels" in inputs:
        raise parameters.wrong("label", "and there is an input labels: give one of them")
    names = _label_names(parameters, metadata)
    if names is None and metadata.label_count:
        return np.eye(metadata.label_count, dtype=np.float32)[[parameters.number("label", metadata.label_count - 1)]]
    with naming(label_names="parameters.label"):
        return of_label_names(names or [], metadata)


def _label_names(parameters: Parameters, metadata: ModelMetadata) -> list[str] | None:
    """Return the names of the parameter `label`, which commas separate; None if it is the number of a column."""
    try:
        text = parameters.text("label")
    except InvalidArgument:
        return None
    if text in metadata.label_columns:
        return [text]
    return None if text.isdecimal() else [name.strip() for name in text.split(",")]


def _outputs(request: Any, parameters: Parameters) -> tuple[str, ...]:
    if not request.outputs:
        return ("files",) if parameters.text("encoding").lower() not in ("", "raw") else ("images",)
    names = []
    for output in request.outputs:
        if output.name not in OUTPUTS:
            raise InvalidArgument("outputs", f"{output.name!r} is no output; the outputs are {', '.join(OUTPUTS)}")
        if output.name in names:
            raise InvalidArgument("outputs", f"{output.name} is asked for twice")
        for unsupported in ("shared_memory_region", "classification"):
            if unsupported in output.parameters:
                raise Unsupported(f"{output.name}: {unsupported} is not supported; the reply holds the whole tensor")
        names.append(output.name)
    return tuple(names)


def _format(parameters: Parameters, outputs: tuple[str, ...]) -> Format:
    """Return the format of the files, or raw pixels if none are asked for."""
    name = parameters.text("encoding").upper()
    if name and name not in Encoding.__members__:
        raise parameters.wrong("encoding", f"must be {', '.join(Encoding).lower()}")
    encoding = Encoding(name or "PNG") if "files" in outputs else Encoding.RAW
    if "files" in outputs and encoding is Encoding.RAW:
        raise parameters.wrong("encoding", "files are png, jpeg or webp")
    if encoding is Encoding.RAW:
        return Format(encoding)
    with naming(quality="parameters.quality"):
        return of_quality(encoding, parameters.number("quality", 100))


def _priority(parameters: Parameters) -> Priority:
    """Return the priority: 0 and 1 are interactive, what is higher comes later."""
    return Priority.BULK if parameters.number("priority", _UINT64) > 1 else Priority.INTERACTIVE
