"""Images and models become messages of progan.v1."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from google.protobuf import duration_pb2, struct_pb2
from numpy.typing import NDArray

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.jobs.job import Job, Piece
from progan_service.serving.models.model import Model, VersionStatus
from progan_service.serving.models.version import LoadedVersion
from progan_service.store.metadata import ModelMetadata

Part = TypeVar("Part", pb.StreamGenerateResponse, pb.InterpolateResponse)


def whole(piece: Piece, job: Job) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        images=_images(piece, job),
        latents=_matrix(piece.latents),
        model=_served_model(job.version),
        times=_stage_times(piece),
    )


def part(kind: type[Part], piece: Piece, job: Job) -> Part:
    """Return one message of a stream."""
    return kind(
        first_index=piece.first,
        images=_images(piece, job),
        latents=_matrix(piece.latents),
        model=_served_model(job.version),
        times=_stage_times(piece),
    )


def model_message(model: Model, *, is_default: bool) -> pb.Model:
    return pb.Model(
        name=model.name,
        versions=[_version(status) for status in model.versions],
        is_default=is_default,
        serving_version=model.serving.number if model.serving else 0,
        pinned_version=model.rollout.pinned,
        version_labels={label: version.number for label, version in model.labelled.items()},
        error=model.error,
    )


def _images(piece: Piece, job: Job) -> pb.Images:
    pixels = piece.generated.pixels
    count, height, width, channels = pixels.shape
    return pb.Images(
        encoding=f"IMAGE_ENCODING_{job.format.encoding}",
        count=count,
        height=height,
        width=width,
        channels=channels,
        pixels=b"" if piece.files else pixels.tobytes(),
        files=piece.files,
    )


def _matrix(rows: NDArray[np.float32]) -> pb.FloatMatrix:
    return pb.FloatMatrix(rows=rows.shape[0], columns=rows.shape[1], values=rows.astype("<f4", copy=False).tobytes())


def _served_model(version: LoadedVersion) -> pb.ServedModel:
    return pb.ServedModel(name=version.name, version=version.number, digest=version.metadata.digest)


def _stage_times(piece: Piece) -> pb.StageTimes:
    return pb.StageTimes(
        queue=_duration(piece.generated.queue_s),
        inference=_duration(piece.generated.inference_s),
        encode=_duration(piece.encode_s),
    )


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _version(status: VersionStatus) -> pb.ModelVersion:
    message = pb.ModelVersion(version=status.number, state=f"MODEL_STATE_{status.state.name}", error=status.error)
    if metadata := status.metadata:
        message.digest = metadata.digest
        message.latent_size = metadata.latent_size
        message.resolution = metadata.resolution
        message.channels = metadata.channels
        message.label_count = metadata.label_count
        message.label_names.extend(metadata.label_names)
        message.provenance.CopyFrom(_struct(_provenance(metadata)))
    return message


def _provenance(metadata: ModelMetadata) -> dict[str, Any]:
    """Return the provenance with the licence as "license", wherever the version has it."""
    return {**metadata.provenance, **({"license": metadata.license} if metadata.license else {})}


def _struct(provenance: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the provenance without what a Struct cannot hold: numbers that are too large, text that is not Unicode."""
    struct = struct_pb2.Struct()
    for name, value in provenance.items():
        entry = struct_pb2.Struct()
        try:
            entry.update({name: value})
        except (ValueError, OverflowError):
            continue
        struct.MergeFrom(entry)
    return struct
