"""Check the arguments of a call and build its request. No network here."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from grpc_health.v1 import health_pb2
from numpy.typing import ArrayLike

from progan_client.arguments import (
    Fit,
    GenerateArguments,
    ImageArguments,
    InterpolateArguments,
    InterpolationPath,
    InvertArguments,
    ModelArguments,
    Pace,
)
from progan_client.channel import SERVICE
from progan_client.checks import checked_integer, checked_number
from progan_client.errors import ArgumentError
from progan_client.images import Encoding, Latents
from progan_client.pictures import Picture, picture_files
from progan_protos.v1 import image_generator_pb2 as pb

WIRE_ENCODINGS: dict[Encoding, pb.ImageEncoding] = {
    "raw": pb.IMAGE_ENCODING_RAW,
    "png": pb.IMAGE_ENCODING_PNG,
    "jpeg": pb.IMAGE_ENCODING_JPEG,
    "webp": pb.IMAGE_ENCODING_WEBP,
}
REPORT_EVERY = 10  # evaluations, where somebody wants to hear of them
MAX_AMOUNT = 4  # of an edit, in standard deviations
_SEEDS = 2**64
_VERSION_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_PATHS: dict[InterpolationPath, pb.InterpolationPath] = {
    "spherical": pb.INTERPOLATION_PATH_SPHERICAL,
    "linear": pb.INTERPOLATION_PATH_LINEAR,
    "smooth": pb.INTERPOLATION_PATH_SMOOTH,
}
_FITS: dict[Fit, pb.Fit] = {"crop": pb.FIT_CROP, "pad": pb.FIT_PAD, "stretch": pb.FIT_STRETCH}
_PACES: dict[Pace, pb.Pace] = {"uniform": pb.PACE_UNIFORM, "even": pb.PACE_EVEN}


def generate_request(**arguments: Unpack[GenerateArguments]) -> pb.GenerateRequest:
    """Return the request of `Client.generate`; raise ArgumentError for a wrong value, TypeError for a wrong name."""
    _check_names(arguments, GenerateArguments.__optional_keys__)
    source = latents_message(arguments)
    return pb.GenerateRequest(
        model=model_selector(arguments),
        latents=source,
        **labels_fields(arguments, row_count(source)),
        edits=edit_messages(arguments),
        format=output_format(arguments),
        priority=priority(arguments),
    )


def stream_generate_request(request: pb.GenerateRequest) -> pb.StreamGenerateRequest:
    """Return the same request for a reply in parts."""
    return pb.StreamGenerateRequest(
        model=request.model,
        latents=request.latents,
        labels=request.labels if request.HasField("labels") else None,
        label_names=request.label_names,
        edits=request.edits,
        format=request.format,
        priority=request.priority,
    )


def interpolate_request(**arguments: Unpack[InterpolateArguments]) -> pb.InterpolateRequest:
    """Return the request of `Client.interpolate`; raise ArgumentError for a wrong value, TypeError for a wrong name."""
    _check_names(arguments, InterpolateArguments.__optional_keys__)
    path = arguments.get("path", "spherical")
    if path not in _PATHS:
        raise ArgumentError("path", f"must be one of {', '.join(_PATHS)}", path)
    pace = arguments.get("pace", "uniform")
    if pace not in _PACES:
        raise ArgumentError("pace", f"must be one of {', '.join(_PACES)}", pace)
    key_frames = _key_frames(arguments.get("latents"), arguments.get("seeds"))
    return pb.InterpolateRequest(
        model=model_selector(arguments),
        key_frames=key_frames,
        frames_between=checked_integer("frames_between", arguments.get("frames_between", 30), 0, 2**32 - 1),
        path=_PATHS[path],
        pace=_PACES[pace],
        loop=_flag("loop", arguments.get("loop", False)),
        **labels_fields(arguments, row_count(key_frames)),
        edits=edit_messages(arguments),
        format=output_format(arguments),
        priority=priority(arguments),
    )


def invert_request(
    pictures: Picture | Iterable[Picture], report_every: int, **arguments: Unpack[InvertArguments]
) -> pb.InvertRequest:
    """Return the request of `Client.invert`; raise ArgumentError for a wrong value, TypeError for a wrong name."""
    _check_names(arguments, InvertArguments.__optional_keys__)
    fit = arguments.get("fit", "crop")
    if fit not in _FITS:
        raise ArgumentError("fit", f"must be one of {', '.join(_FITS)}", fit)
    enough_db = _number("enough_db", "must be a number from 1 to 100", arguments.get("enough_db", 50.0), 1, 100)
    files = picture_files(pictures)
    return pb.InvertRequest(
        model=model_selector(arguments),
        pictures=files,
        fit=_FITS[fit],
        **labels_fields(arguments, len(files)),
        format=output_format(arguments),
        priority=priority(arguments),
        max_evaluations=checked_integer("max_evaluations", arguments.get("max_evaluations", 300), 1, 2000),
        enough_db=enough_db,
        report_every=report_every,
    )


def model_request(name: str) -> pb.GetModelRequest:
    """Return the request for one model, the default model if the name is empty."""
    return pb.GetModelRequest(name=_model_name("name", name))


def health_request(model: str) -> health_pb2.HealthCheckRequest:
    """Return the request for the health of one model, or of the service if the name is empty."""
    return health_pb2.HealthCheckRequest(service=f"{SERVICE}/{model}" if model else SERVICE)


def model_selector(arguments: ModelArguments) -> pb.ModelSelector:
    """Select the model (default "": the default model) and version (default None: the serving version)."""
    name, version = _model_name("model", arguments.get("model", "")), arguments.get("version")
    if version is None:
        return pb.ModelSelector(name=name)
    if not isinstance(version, str):
        return pb.ModelSelector(name=name, version=checked_integer("version", version, 1, 2**64 - 1))
    if not _VERSION_LABEL.fullmatch(version):
        rule = "must be a number or a label: a small letter, then small letters, digits, - or _, at most 63 in all"
        raise ArgumentError("version", rule, version)
    return pb.ModelSelector(name=name, version_label=version)


def _model_name(argument: str, name: object) -> str | None:
    if not isinstance(name, str | None):
        raise ArgumentError(argument, "must be the name of a model", name)
    return name


def latents_message(arguments: GenerateArguments) -> pb.Latents:
    """Encode exactly one source: latents float [N, L], seeds, or a count and its first seed (default: random).

    A seed without a count is one image.
    """
    latents, seeds = arguments.get("latents"), arguments.get("seeds")
    count, seed = arguments.get("count"), arguments.get("seed")
    count = 1 if count is None and seed is not None else count
    sources = {"latents": latents, "seeds": seeds, "count": count}
    given = [name for name, source in sources.items() if source is not None]
    if len(given) != 1:
        raise ArgumentError("latents, seeds, count", "give exactly one", given)
    if latents is not None:
        return pb.Latents(vectors=_vectors(latents))
    if seeds is not None:
        return pb.Latents(seeds=pb.SeedList(seeds=_seeds(seeds)))
    first_seed = secrets.randbits(53) if seed is None else seed  # 53 bits stay exact in JSON and JavaScript
    return pb.Latents(
        seed_range=pb.SeedRange(
            first_seed=checked_integer("seed", first_seed, 0, _SEEDS - 1),
            count=checked_integer("count", count, 1, 2**32 - 1),
        )
    )


def edit_messages(arguments: ImageArguments) -> list[pb.Edit]:
    """Encode `edits` (move by) and `sets` (move to), which all hold what `hold` names. The default is no edit."""
    edits, sets, held = arguments.get("edits") or {}, arguments.get("sets") or {}, arguments.get("hold", ())
    for name, argument in (("edits", edits), ("sets", sets)):
        if not isinstance(argument, Mapping):
            raise ArgumentError(name, 'must be amounts by the names of directions, such as {"size": 1.5}', argument)
    if isinstance(held, str) or not isinstance(held, Iterable):
        raise ArgumentError("hold", "must be a list of names", held)
    hold = list(held)  # an iterator would be empty at the second look
    for given, names in (("edits", edits), ("sets", sets), ("hold", hold)):
        for name in names:
            if not isinstance(name, str):
                raise ArgumentError(given, "must have names of directions", name)
    for name in edits:
        if name in sets:
            raise ArgumentError("edits, sets", "give each direction in one of them", name)
    for name in hold:
        if name in edits or name in sets:
            raise ArgumentError("hold", "must be other directions than those that move", name)
    if hold and not (edits or sets):
        raise ArgumentError("hold", "needs edits or sets", hold)
    return [
        *(pb.Edit(direction=name, offset=_amount("edits", name, by), hold=hold) for name, by in edits.items()),
        *(pb.Edit(direction=name, set=_amount("sets", name, to), hold=hold) for name, to in sets.items()),
    ]


def _amount(argument: str, name: str, value: object) -> float:
    rule = f"{name} must be a number from -{MAX_AMOUNT} to {MAX_AMOUNT}"
    return _number(argument, rule, value, -MAX_AMOUNT, MAX_AMOUNT)


def _number(argument: str, rule: str, value: object, low: float, high: float) -> float:
    number = checked_number(argument, rule, value)
    if not low <= number <= high:
        raise ArgumentError(argument, rule, value)
    return number


def labels_fields(arguments: ModelArguments, rows: int) -> dict[str, Any]:
    """Encode `label` or `labels` as the field `labels` or `label_names`; neither: no field."""
    label, labels = arguments.get("label"), arguments.get("labels")
    if label is None:
        if labels is None:
            return {}
        names = _label_names(labels)
        return {"labels": _label_matrix(labels, rows)} if names is None else {"label_names": names}
    if labels is not None:
        raise ArgumentError("label, labels", "give at most one", ["label", "labels"])
    if not isinstance(label, str):
        raise ArgumentError("label", "must be the name of a label; give several, or a vector, as labels", label)
    return {"label_names": [label]}


def _label_names(labels: ArrayLike | Sequence[str]) -> list[str] | None:
    """Return labels that are names; None for numbers."""
    if isinstance(labels, str):
        raise ArgumentError("labels", "must be numbers or a list of names; give one name as label", labels)
    if not isinstance(labels, Sequence) or not labels or not any(isinstance(name, str) for name in labels):
        return None
    for position, name in enumerate(labels):
        if not isinstance(name, str):
            raise ArgumentError(f"labels[{position}]", "must be a name, as the others are", name)
    return list(labels)


def _label_matrix(labels: ArrayLike, rows: int) -> pb.FloatMatrix:
    """Encode labels: float [K] or [1, K] for all `rows` images (or key frames), or [rows, K]."""
    array = _floats("labels", labels)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] not in (1, rows) or array.shape[1] == 0:
        raise ArgumentError("labels", f"must have the shape [K], [1, K] or [{rows}, K]", np.shape(labels))
    return _matrix(array)


def output_format(arguments: ModelArguments) -> pb.OutputFormat:
    """Encode the encoding (default "raw") and quality (default 0: the service's own, 90)."""
    encoding, quality = arguments.get("encoding", "raw"), arguments.get("quality", 0)
    if encoding not in WIRE_ENCODINGS:
        raise ArgumentError("encoding", f"must be one of {', '.join(WIRE_ENCODINGS)}", encoding)
    if encoding in ("raw", "png") and quality != 0:
        raise ArgumentError("quality", f"must be 0 with {encoding}, which is lossless", quality)
    return pb.OutputFormat(encoding=WIRE_ENCODINGS[encoding], quality=checked_integer("quality", quality, 0, 100))


def priority(arguments: ModelArguments) -> pb.Priority:
    """Encode `bulk` (default False)."""
    return pb.PRIORITY_BULK if _flag("bulk", arguments.get("bulk", False)) else pb.PRIORITY_INTERACTIVE


def _flag(argument: str, value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(argument, "must be True or False", value)
    return bool(value)


def row_count(source: pb.Latents) -> int:
    """Return the number of latents of a request."""
    return source.vectors.rows or len(source.seeds.seeds) or source.seed_range.count


def frame_count(walk: pb.InterpolateRequest) -> int:
    """Return the number of frames of a walk."""
    segments = row_count(walk.key_frames) - (not walk.loop)
    return segments * (walk.frames_between + 1) + (not walk.loop)


def _check_names(arguments: Mapping[str, object], known: frozenset[str]) -> None:
    for name in arguments:
        if name not in known:
            names = ", ".join(sorted({*known, "timeout_s"}))  # timeout_s is not part of the request
            raise TypeError(f"unexpected argument {name!r}; must be one of {names}")


def _key_frames(latents: ArrayLike | None, seeds: Iterable[int] | None) -> pb.Latents:
    if (latents is None) == (seeds is None):
        raise ArgumentError("latents, seeds", "give exactly one", ["latents", "seeds"] if seeds is not None else [])
    key_frames = latents_message({"latents": latents, "seeds": seeds})
    if row_count(key_frames) < 2:
        raise ArgumentError("seeds" if latents is None else "latents", "must be two or more", row_count(key_frames))
    return key_frames


def _vectors(latents: ArrayLike) -> pb.FloatMatrix:
    array = _floats("latents", latents)
    if array.ndim != 2 or 0 in array.shape:
        raise ArgumentError("latents", "must have the shape [N, L], both above 0", array.shape)
    zero_rows = np.flatnonzero(~array.any(axis=1))
    if zero_rows.size:
        raise ArgumentError(f"latents[{zero_rows[0]}]", "must have a length above zero", 0.0)
    return _matrix(array)


def _floats(argument: str, values: ArrayLike) -> Latents:
    """Return `values` as float32; raise ArgumentError that names the first element which is not finite."""
    try:
        array = np.asarray(values)
    except ValueError:  # of lists that are no array
        raise ArgumentError(argument, "must have rows of one length", values) from None
    if array.dtype.kind not in "iuf":
        raise ArgumentError(argument, "must be real numbers", array.dtype.name)
    with np.errstate(over="ignore"):  # the check below reports an overflow
        array = array.astype(np.float32)
    infinite = np.argwhere(~np.isfinite(array))
    if infinite.size:
        position = tuple(infinite[0])
        place = ", ".join(str(i) for i in position)
        raise ArgumentError(f"{argument}[{place}]", "must be finite as float32", float(array[position]))
    return array


def _matrix(array: Latents) -> pb.FloatMatrix:
    rows, columns = array.shape
    return pb.FloatMatrix(rows=rows, columns=columns, values=array.astype("<f4").tobytes())


def _seeds(seeds: Iterable[int]) -> Sequence[int]:
    try:
        values = list(seeds)
    except TypeError:
        raise ArgumentError("seeds", "must be a sequence of integers", seeds) from None
    if not values:
        raise ArgumentError("seeds", "must be at least one", values)
    return [checked_integer(f"seeds[{i}]", value, 0, _SEEDS - 1) for i, value in enumerate(values)]
