"""Between Python and the wire: arguments -> request, response -> numpy. No network here."""

import math
import operator
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from google.protobuf import struct_pb2
from grpc_health.v1 import health_pb2
from numpy.typing import ArrayLike

from progan_client.channel import SERVICE
from progan_client.errors import ArgumentError, ReplyError
from progan_client.images import Encoding, Frame, GeneratedImages, Latents, Pixels, StageTimes
from progan_client.models import Model, ModelState, ModelVersion, ServedModel
from progan_protos.v1 import image_generator_pb2 as pb

Path = Literal["spherical", "linear"]
Part = TypeVar("Part", GeneratedImages, Frame)  # what one stream is made of

UNKNOWN_HEALTH = "SERVICE_UNKNOWN"  # the health service answers NOT_FOUND instead of sending this status

_SEEDS = 2**64
_VERSION_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_WIRE_ENCODING: dict[Encoding, pb.ImageEncoding] = {
    "raw": pb.IMAGE_ENCODING_RAW,
    "png": pb.IMAGE_ENCODING_PNG,
    "jpeg": pb.IMAGE_ENCODING_JPEG,
    "webp": pb.IMAGE_ENCODING_WEBP,
}
_ENCODING_OF_WIRE: dict[int, Encoding] = {wire: encoding for encoding, wire in _WIRE_ENCODING.items()}
_WIRE_PATH: dict[Path, pb.InterpolationPath] = {
    "spherical": pb.INTERPOLATION_PATH_SPHERICAL,
    "linear": pb.INTERPOLATION_PATH_LINEAR,
}

# ---------------------------------------------------------------------------------------------- arguments -> request


def model_selector(name: str, version: int | str | None) -> pb.ModelSelector:
    """Empty name: the default model. A version is a number or a label; None: the one that serves."""
    if version is None:
        return pb.ModelSelector(name=name)
    if not isinstance(version, str):
        return pb.ModelSelector(name=name, version=_integer("version", version, 1, 2**64 - 1))
    if not _VERSION_LABEL.fullmatch(version):
        rule = "must be a number or a label: a small letter, then small letters, digits, - or _, at most 63 in all"
        raise ArgumentError("version", rule, version)
    return pb.ModelSelector(name=name, version_label=version)


def latents_message(
    latents: ArrayLike | None, seeds: Iterable[int] | None, count: int | None = None, seed: int | None = None
) -> pb.Latents:
    """Exactly one source: latents float [N, L], seeds, or a count with its first seed (a random one when None).

    A seed alone means one image.
    """
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
            first_seed=_integer("seed", first_seed, 0, _SEEDS - 1), count=_integer("count", count, 1, 2**32 - 1)
        )
    )


def labels_message(labels: ArrayLike | None, rows: int) -> pb.FloatMatrix | None:
    """float [K] or [1, K] for all of `rows` images (or key frames), or [rows, K]."""
    if labels is None:
        return None
    array = _floats("labels", labels)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] not in (1, rows) or array.shape[1] == 0:
        raise ArgumentError("labels", f"must have the shape [K], [1, K] or [{rows}, K]", np.shape(labels))
    return _matrix(array)


def output_format(encoding: Encoding, quality: int) -> pb.OutputFormat:
    """`quality` is 1 to 100 for "jpeg" and "webp", 0 there means the service's default (90); else it has to be 0."""
    if encoding not in _WIRE_ENCODING:
        raise ArgumentError("encoding", f"must be one of {', '.join(_WIRE_ENCODING)}", encoding)
    if encoding in ("raw", "png") and quality != 0:
        raise ArgumentError("quality", f"must be 0 with {encoding}, which loses nothing", quality)
    return pb.OutputFormat(encoding=_WIRE_ENCODING[encoding], quality=_integer("quality", quality, 0, 100))


def generate_request(
    latents: ArrayLike | None,
    seeds: Iterable[int] | None,
    count: int | None,
    seed: int | None,
    labels: ArrayLike | None,
    model: str,
    version: int | str | None,
    encoding: Encoding,
    quality: int,
    bulk: bool,
) -> pb.GenerateRequest:
    """The arguments of Client.generate; ArgumentError names the one that is wrong."""
    source = latents_message(latents, seeds, count, seed)
    return pb.GenerateRequest(
        model=model_selector(model, version),
        latents=source,
        labels=labels_message(labels, row_count(source)),
        format=output_format(encoding, quality),
        priority=pb.PRIORITY_BULK if bulk else pb.PRIORITY_INTERACTIVE,
    )


def stream_generate_request(request: pb.GenerateRequest) -> pb.StreamGenerateRequest:
    """The same question, to be answered in pieces."""
    return pb.StreamGenerateRequest(
        model=request.model,
        latents=request.latents,
        labels=request.labels if request.HasField("labels") else None,
        format=request.format,
        priority=request.priority,
    )


def interpolate_request(
    latents: ArrayLike | None,
    seeds: Iterable[int] | None,
    frames_between: int,
    path: Path,
    loop: bool,
    labels: ArrayLike | None,
    model: str,
    version: int | str | None,
    encoding: Encoding,
    quality: int,
    bulk: bool,
) -> pb.InterpolateRequest:
    """The arguments of Client.interpolate; ArgumentError names the one that is wrong."""
    if (latents is None) == (seeds is None):
        raise ArgumentError("latents, seeds", "give exactly one", ["latents", "seeds"] if seeds is not None else [])
    key_frames = latents_message(latents, seeds)
    if row_count(key_frames) < 2:
        raise ArgumentError("seeds" if latents is None else "latents", "must be two or more", row_count(key_frames))
    if path not in _WIRE_PATH:
        raise ArgumentError("path", f"must be one of {', '.join(_WIRE_PATH)}", path)
    return pb.InterpolateRequest(
        model=model_selector(model, version),
        key_frames=key_frames,
        frames_between=_integer("frames_between", frames_between, 0, 2**32 - 1),
        path=_WIRE_PATH[path],
        loop=loop,
        labels=labels_message(labels, row_count(key_frames)),
        format=output_format(encoding, quality),
        priority=pb.PRIORITY_BULK if bulk else pb.PRIORITY_INTERACTIVE,
    )


def health_request(model: str) -> health_pb2.HealthCheckRequest:
    """The readiness of one model, or with an empty name of the service."""
    return health_pb2.HealthCheckRequest(service=f"{SERVICE}/{model}" if model else SERVICE)


def row_count(source: pb.Latents) -> int:
    """How many latents a request names."""
    return source.vectors.rows or len(source.seeds.seeds) or source.seed_range.count


def _vectors(latents: ArrayLike) -> pb.FloatMatrix:
    array = _floats("latents", latents)
    if array.ndim != 2 or 0 in array.shape:
        raise ArgumentError("latents", "must have the shape [N, L], both above 0", array.shape)
    without_direction = np.flatnonzero(~array.any(axis=1))
    if without_direction.size:
        raise ArgumentError(f"latents[{without_direction[0]}]", "must have a length above zero", 0.0)
    return _matrix(array)


def _floats(argument: str, values: ArrayLike) -> Latents:
    """`values` as finite float32; ArgumentError names the first element that is not."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ArgumentError(argument, "must be real numbers", array.dtype.name)
    with np.errstate(over="ignore"):  # what overflows is named below
        array = array.astype(np.float32)
    broken = np.argwhere(~np.isfinite(array))
    if broken.size:
        position = tuple(broken[0])
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
    return [_integer(f"seeds[{i}]", value, 0, _SEEDS - 1) for i, value in enumerate(values)]


def _integer(argument: str, value: object, low: int, high: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # this is the check
    except TypeError:
        raise ArgumentError(argument, "must be an integer", value) from None
    if not low <= number <= high:
        raise ArgumentError(argument, f"must be {low} to {high}", value)
    return number


# ---------------------------------------------------------------------------------------------- response -> numpy


def images_of_reply(reply: pb.GenerateResponse, request: pb.GenerateRequest) -> GeneratedImages:
    """The answer to Generate."""
    return _images(reply, seeds_of(request.latents, 0, reply.images.count))


def images_of_part(reply: pb.StreamGenerateResponse, request: pb.StreamGenerateRequest) -> GeneratedImages:
    """One message of StreamGenerate, with its own part of the seeds."""
    return _images(reply, seeds_of(request.latents, reply.first_index, reply.images.count))


def frames_of_part(reply: pb.InterpolateResponse) -> Iterator[Frame]:
    """The frames of one message of Interpolate."""
    images = _images(reply, None)
    return (Frame(reply.first_index + i, images[i : i + 1]) for i in range(len(images)))


def _images(
    reply: pb.GenerateResponse | pb.StreamGenerateResponse | pb.InterpolateResponse, seeds: tuple[int, ...] | None
) -> GeneratedImages:
    """What one message brought; ReplyError when its sizes do not fit together."""
    images = reply.images
    shape = (images.count, images.height, images.width, images.channels)
    encoding = _ENCODING_OF_WIRE.get(images.encoding)
    if encoding is None:
        raise ReplyError(f"the service sent images in an encoding that this client does not know ({images.encoding})")
    raw = _raw(images.pixels, shape) if encoding == "raw" else None
    if raw is None and len(images.files) != images.count:
        raise ReplyError(f"the service announced {images.count} images and sent {len(images.files)}")
    return GeneratedImages(
        shape=shape,
        encoding=encoding,
        files=tuple(images.files),
        raw=raw,
        latents=_latents(reply.latents, images.count),
        seeds=seeds,
        model=ServedModel(reply.model.name, reply.model.version, reply.model.digest),
        times=StageTimes(
            queue_s=reply.times.queue.ToNanoseconds() / 1e9,
            inference_s=reply.times.inference.ToNanoseconds() / 1e9,
            encode_s=reply.times.encode.ToNanoseconds() / 1e9,
        ),
    )


def _raw(pixels: bytes, shape: tuple[int, int, int, int]) -> Pixels:
    if len(pixels) != math.prod(shape):
        raise ReplyError(f"the service announced images of shape {shape} and sent {len(pixels)} bytes")
    return np.frombuffer(pixels, np.uint8).reshape(shape).copy()  # a view of bytes would be read-only


def seeds_of(source: pb.Latents, first_index: int, count: int) -> tuple[int, ...] | None:
    """The seeds of `count` images from `first_index` on; None when the request gave latents."""
    if source.HasField("vectors"):
        return None
    if source.HasField("seeds"):
        return tuple(source.seeds.seeds[first_index : first_index + count])
    first_seed = source.seed_range.first_seed + first_index
    return tuple((first_seed + i) % _SEEDS for i in range(count))


def model_of_message(message: pb.Model) -> Model:
    """A model as the service describes it."""
    return Model(
        name=message.name,
        versions=tuple(_version(version) for version in message.versions),
        is_default=message.is_default,
        serving_version=message.serving_version or None,
        pinned_version=message.pinned_version or None,
        version_labels=dict(message.version_labels),
        error=message.error,
    )


def health_of_reply(reply: health_pb2.HealthCheckResponse) -> str:
    """1 -> "SERVING"."""
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def _version(message: pb.ModelVersion) -> ModelVersion:
    return ModelVersion(
        version=message.version,
        state=_state(message.state),
        error=message.error,
        digest=message.digest,
        latent_size=message.latent_size,
        resolution=message.resolution,
        channels=message.channels,
        label_count=message.label_count,
        label_names=tuple(message.label_names),
        provenance=_values(message.provenance),
    )


def _values(struct: struct_pb2.Struct) -> dict[str, Any]:
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: struct_pb2.Value) -> Any:
    """What was written: on the wire every number is a float, 800 as well."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return _values(value.struct_value)
        case "list_value":
            return [_value(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None


def _state(wire: int) -> ModelState:
    """MODEL_STATE_READY -> "ready"; a state newer than this client is "unspecified"."""
    known: tuple[ModelState, ...] = get_args(ModelState)
    name = pb.ModelState.Name(wire) if wire in pb.ModelState.values() else ""
    return next((state for state in known if name == f"MODEL_STATE_{state.upper()}"), "unspecified")


def _latents(matrix: pb.FloatMatrix, rows: int) -> Latents:
    values = np.frombuffer(matrix.values, "<f4") if len(matrix.values) % 4 == 0 else np.empty(0, np.float32)
    if matrix.rows != rows or values.size != matrix.rows * matrix.columns:
        raise ReplyError(f"the service sent latents of shape ({matrix.rows}, {matrix.columns}) for {rows} images")
    return values.reshape(matrix.rows, matrix.columns).astype(np.float32)
