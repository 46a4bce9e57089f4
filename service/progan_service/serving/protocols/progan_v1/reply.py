"""Images and models become messages of progan.v1."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from google.protobuf import duration_pb2, struct_pb2
from numpy.typing import NDArray

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.jobs.inversion import Inversion, Report
from progan_service.serving.jobs.job import Job, Piece
from progan_service.serving.models.model import Model, VersionStatus
from progan_service.serving.models.version import LoadedVersion
from progan_service.store.directions import Direction
from progan_service.store.metadata import ModelMetadata

_OVERHEAD_BYTES = 64 * 2**10  # of a reply, beside the models

Part = TypeVar("Part", pb.StreamGenerateResponse, pb.InterpolateResponse)


def whole(piece: Piece, job: Job) -> bytes:
    """Return the reply, serialized: one copy of the images waits to be sent, not two."""
    return pb.GenerateResponse(
        images=_images(piece, job),
        latents=_matrix(piece.latents),
        model=_served_model(job.version),
        times=_stage_times(piece),
    ).SerializeToString()


def part(kind: type[Part], piece: Piece, job: Job) -> bytes:
    """Return one message of a stream, serialized likewise."""
    return kind(
        first_index=piece.first,
        images=_images(piece, job),
        latents=_matrix(piece.latents),
        model=_served_model(job.version),
        times=_stage_times(piece),
    ).SerializeToString()


def report(found: Report, inversion: Inversion) -> bytes:
    """Return one message of an inversion, serialized."""
    piece, spent = found.piece, found.spent
    times = pb.StageTimes(queue=_duration(spent.queue_s), inference=_duration(spent.inference_s))
    if piece:
        times.MergeFrom(pb.StageTimes(encode=_duration(piece.encode_s)))
    return pb.InvertResponse(
        picture=found.picture,
        evaluations=found.evaluations,
        psnr_db=found.psnr_db,
        latents=_matrix(found.best.latent[None]),
        labels=_matrix(found.best.labels[None]) if len(found.best.labels) else None,
        images=_images(piece, inversion.image) if piece else None,
        end=f"INVERSION_END_{found.end.upper()}" if found.end else None,
        model=_served_model(inversion.image.version),
        times=times,
    ).SerializeToString()


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


class Models:
    """Messages of models. The description of a version is made once: a long provenance takes long to convert.

    Used in the event loop only.
    """

    def __init__(self) -> None:
        self._described: dict[str, dict[int, tuple[ModelMetadata, pb.ModelVersion]]] = {}  # by model and version

    def message(self, model: Model, *, is_default: bool) -> pb.Model:
        before = self._described.get(model.name, {})
        self._described[model.name] = {
            status.number: _described(status.metadata, before.get(status.number))
            for status in model.versions
            if status.metadata
        }
        return pb.Model(
            name=model.name,
            versions=[self._version(model.name, status, model.loaded.get(status.number)) for status in model.versions],
            is_default=is_default,
            serving_version=model.serving.number if model.serving else 0,
            pinned_version=model.rollout.pinned,
            version_labels={label: version.number for label, version in model.labelled.items()},
            error=model.error,
        )

    def _version(self, name: str, status: VersionStatus, loaded: LoadedVersion | None) -> pb.ModelVersion:
        message = pb.ModelVersion(version=status.number, state=f"MODEL_STATE_{status.state.name}", error=status.error)
        message.memory_bytes = status.memory_bytes
        if status.metadata:
            message.MergeFrom(self._described[name][status.number][1])
        message.directions.extend(map(_direction, loaded.directions.values() if loaded else ()))
        return message


def fitting(models: Sequence[pb.Model], max_bytes: int) -> Sequence[pb.Model]:
    """Return the models, without their longest parts if they would not fit into a message of `max_bytes`."""
    for field in ("provenance", "label_names"):
        if sum(model.ByteSize() for model in models) > max_bytes - _OVERHEAD_BYTES:
            for version in chain.from_iterable(model.versions for model in models):
                version.ClearField(field)
    return models


def _described(
    metadata: ModelMetadata, before: tuple[ModelMetadata, pb.ModelVersion] | None
) -> tuple[ModelMetadata, pb.ModelVersion]:
    if before and before[0] is metadata:
        return before
    message = pb.ModelVersion(
        digest=metadata.digest,
        latent_size=metadata.latent_size,
        resolution=metadata.resolution,
        channels=metadata.channels,
        label_count=metadata.label_count,
        label_names=metadata.label_names,
        label_kind=f"LABEL_KIND_{metadata.label_kind.upper()}" if metadata.label_count else None,
        provenance=_struct(_provenance(metadata)),
        can_invert=metadata.can_invert,
    )
    return metadata, message


def _direction(direction: Direction) -> pb.Direction:
    return pb.Direction(
        name=direction.name,
        origin=f"DIRECTION_ORIGIN_{direction.origin.upper()}",
        r=direction.r or 0,
        monotone=direction.monotone or 0,
        shift_sd=direction.shift_sd or 0,
    )


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
