"""Translate replies of the service into images, frames, models and health states. No network here."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar, get_args

import numpy as np
from google.protobuf import struct_pb2
from grpc_health.v1 import health_pb2

from progan_client.errors import ReplyError
from progan_client.images import Encoding, Frame, GeneratedImages, Latents, Pixels, StageTimes
from progan_client.inversion import Inversion, InversionEnd, InversionReport
from progan_client.models import Direction, Model, ModelState, ModelVersion, ServedModel
from progan_client.requests import WIRE_ENCODINGS, row_count
from progan_protos.v1 import image_generator_pb2 as pb

Part = TypeVar("Part", GeneratedImages, Frame)  # the items of a stream

MAX_IMAGE_PIXELS = 2**26  # 8192 x 8192; no model makes larger images
UNKNOWN_HEALTH = "SERVICE_UNKNOWN"  # the health service answers NOT_FOUND instead of sending this status

_ENCODINGS: dict[int, Encoding] = {wire: encoding for encoding, wire in WIRE_ENCODINGS.items()}


_ORIGINS: dict[int, str] = {
    pb.DIRECTION_ORIGIN_FITTED: "fitted",
    pb.DIRECTION_ORIGIN_DISCOVERED: "discovered",
}


_END_NAMES: dict[int, InversionEnd] = {
    pb.INVERSION_END_ENOUGH: "enough",
    pb.INVERSION_END_BUDGET: "budget",
    pb.INVERSION_END_NO_GAIN: "no_gain",
    pb.INVERSION_END_DEADLINE: "deadline",
}


def images_of_reply(reply: pb.GenerateResponse, request: pb.GenerateRequest) -> GeneratedImages:
    """Return the images of a reply to Generate. Raise ReplyError if they are not as many as were requested."""
    if reply.images.count != row_count(request.latents):
        raise ReplyError(f"the service sent {reply.images.count} images instead of {row_count(request.latents)}")
    return _images(reply, seeds_of(request.latents, 0, reply.images.count))


def images_of_part(reply: pb.StreamGenerateResponse, request: pb.StreamGenerateRequest) -> GeneratedImages:
    """Return the images of one message of StreamGenerate, with their own seeds."""
    return _images(reply, seeds_of(request.latents, reply.first_index, reply.images.count))


def frames_of_part(reply: pb.InterpolateResponse) -> Iterator[Frame]:
    """Return the frames of one message of Interpolate."""
    images = _images(reply, None)
    return (Frame(reply.first_index + i, images[i : i + 1]) for i in range(len(images)))


def report_of_reply(reply: pb.InvertResponse) -> InversionReport:
    """Return how far the search for a picture is."""
    (latent,) = _latents(reply.latents, 1)
    return InversionReport(reply.picture, reply.evaluations, round(reply.psnr_db, 2), latent)


def is_end(reply: pb.InvertResponse) -> bool:
    """Return whether a message is the last one of its picture."""
    return reply.end != pb.INVERSION_END_UNSPECIFIED


def inversion_of_replies(last: Mapping[int, pb.InvertResponse], pictures: int) -> Inversion:
    """Return what was found, by the last message of each picture. Raise ReplyError if one is missing."""
    if sorted(last) != list(range(pictures)):
        raise ReplyError(f"the service ended the stream after {len(last)} of {pictures} pictures")
    replies = [last[picture] for picture in range(pictures)]
    labels = [_latents(reply.labels, 1) for reply in replies if reply.labels.columns]
    images = _joined([_images(reply, None) for reply in replies])
    return Inversion(
        latents=images.latents,
        labels=np.concatenate(labels) if labels else None,
        psnr_db=tuple(round(reply.psnr_db, 2) for reply in replies),
        evaluations=tuple(reply.evaluations for reply in replies),
        ends=tuple(_END_NAMES.get(reply.end, "unspecified") for reply in replies),
        images=images,
    )


def _joined(parts: Sequence[GeneratedImages]) -> GeneratedImages:
    """Return images that came in several messages as one. Raise ReplyError if they do not belong together."""
    first = parts[0]
    if any(
        (part.shape[1:], part.encoding, part.model) != (first.shape[1:], first.encoding, first.model) for part in parts
    ):
        raise ReplyError("the service sent images of several sizes, formats or models")
    return replace(
        first,
        shape=(sum(len(part) for part in parts), *first.shape[1:]),
        files=tuple(chain.from_iterable(part.files for part in parts)),
        raw=None if first.raw is None else np.concatenate([part.pixels for part in parts]),
        latents=np.concatenate([part.latents for part in parts]),
        times=StageTimes(
            max(part.times.queue_s for part in parts),
            sum(part.times.inference_s for part in parts),
            sum(part.times.encode_s for part in parts),
        ),
    )


def seeds_of(source: pb.Latents, first_index: int, count: int) -> tuple[int, ...] | None:
    """Return the seeds of `count` images from `first_index` on, None if the request has latents."""
    if source.HasField("vectors"):
        return None
    if source.HasField("seeds"):
        return tuple(source.seeds.seeds[first_index : first_index + count])
    first_seed = source.seed_range.first_seed + first_index
    return tuple((first_seed + i) % 2**64 for i in range(count))


def stage_times(message: pb.StageTimes) -> StageTimes:
    """Return the server's times of one reply in seconds."""
    return StageTimes(
        queue_s=message.queue.ToNanoseconds() / 1e9,
        inference_s=message.inference.ToNanoseconds() / 1e9,
        encode_s=message.encode.ToNanoseconds() / 1e9,
    )


def model_of_message(message: pb.Model) -> Model:
    """Return a model as the service describes it."""
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
    """Return the name of a health status: 1 -> "SERVING"; a status that this client does not know is "UNKNOWN"."""
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    return str(statuses.Name(reply.status if reply.status in statuses.values() else statuses.UNKNOWN))


def _images(
    reply: pb.GenerateResponse | pb.StreamGenerateResponse | pb.InterpolateResponse | pb.InvertResponse,
    seeds: tuple[int, ...] | None,
) -> GeneratedImages:
    """Return the images of one message; raise ReplyError if its sizes do not fit together."""
    images = reply.images
    shape = (images.count, images.height, images.width, images.channels)
    if images.channels not in (1, 3) or not 1 <= images.height * images.width <= MAX_IMAGE_PIXELS:
        raise ReplyError(f"the service announced images of shape {shape}")
    encoding = _ENCODINGS.get(images.encoding)
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
        times=stage_times(reply.times),
    )


def _raw(pixels: bytes, shape: tuple[int, int, int, int]) -> Pixels:
    if len(pixels) != math.prod(shape):
        raise ReplyError(f"the service announced images of shape {shape} and sent {len(pixels)} bytes")
    return np.frombuffer(pixels, np.uint8).reshape(shape).copy()  # a view of bytes would be read-only


def _latents(matrix: pb.FloatMatrix, rows: int) -> Latents:
    values = np.frombuffer(matrix.values, "<f4") if len(matrix.values) % 4 == 0 else np.empty(0, np.float32)
    if matrix.rows != rows or values.size != matrix.rows * matrix.columns:
        raise ReplyError(f"the service sent latents of shape ({matrix.rows}, {matrix.columns}) for {rows} images")
    return values.reshape(matrix.rows, matrix.columns).astype(np.float32)


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
        memory_bytes=message.memory_bytes,
        label_kind="attributes" if message.label_kind == pb.LABEL_KIND_ATTRIBUTES else "classes",
        directions={direction.name: _direction(direction) for direction in message.directions},
        can_invert=message.can_invert,
    )


def _direction(message: pb.Direction) -> Direction:
    origin = _ORIGINS.get(message.origin, "unknown")
    figures = (round(value, 4) for value in (message.r, message.monotone, message.shift_sd))  # they came as float32
    return Direction(message.name, origin, *figures)


def _state(number: int) -> ModelState:
    """MODEL_STATE_READY -> "ready"; a state that this client does not know is "unspecified"."""
    known: tuple[ModelState, ...] = get_args(ModelState)
    name = pb.ModelState.Name(number) if number in pb.ModelState.values() else ""
    return next((state for state in known if name == f"MODEL_STATE_{state.upper()}"), "unspecified")


def _values(struct: struct_pb2.Struct) -> dict[str, Any]:
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: struct_pb2.Value) -> Any:
    """Return a JSON value as it was written: protobuf sends 800 as 800.0."""
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
