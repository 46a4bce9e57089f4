"""Messages of progan.v1 become jobs, or an InvalidArgument that names the field. Pure.

This is the only place that knows the fields: `naming` puts them in the place of the plain words of jobs and models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.decoding.square import Fit
from progan_service.latents.walks import WalkPath
from progan_service.serving.batching.work import Priority
from progan_service.serving.errors import FailedPrecondition, InvalidArgument, naming
from progan_service.serving.files.decoding import decoded
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.edits import MAX_EDITS, Edits, edited, of_edit, of_edits
from progan_service.serving.jobs.format import Format, of_quality
from progan_service.serving.jobs.inversion import Inversion, check_pictures, of_effort
from progan_service.serving.jobs.job import Job
from progan_service.serving.jobs.rows import (
    NO_LABELS,
    Labels,
    Rows,
    of_label_names,
    of_labels,
    of_range,
    of_rows,
    of_seeds,
)
from progan_service.serving.jobs.walks import Frames, of_walk
from progan_service.serving.models.version import Inverting, LoadedVersion
from progan_service.store.directions import Direction
from progan_service.store.metadata import ModelMetadata

Request = pb.GenerateRequest | pb.StreamGenerateRequest | pb.InterpolateRequest | pb.InvertRequest

_PATHS: Mapping[int, WalkPath] = {
    pb.INTERPOLATION_PATH_LINEAR: "linear",
    pb.INTERPOLATION_PATH_SPHERICAL: "spherical",
    pb.INTERPOLATION_PATH_SMOOTH: "smooth",
}

_FITS: Mapping[int, Fit] = {
    pb.FIT_UNSPECIFIED: "crop",
    pb.FIT_CROP: "crop",
    pb.FIT_PAD: "pad",
    pb.FIT_STRETCH: "stretch",
}

MAX_SEEDS = 1_000_000  # they are read one by one; more would block the event loop


def generate_job(
    request: pb.GenerateRequest | pb.StreamGenerateRequest, version: LoadedVersion, deadline: float
) -> Job:
    """Return the job of a request for images. Raises InvalidArgument or FailedPrecondition."""
    rows, moved = latents(request.latents, version.metadata), edits(request.edits, version.directions)
    return Job(
        version,
        edited(rows, moved),
        labels(request, version.metadata, rows.count),
        output_format(request.format),
        deadline,
        priority(request.priority),
        edits=str(moved or ""),
    )


def stream_job(request: pb.StreamGenerateRequest, version: LoadedVersion, deadline: float) -> Job:
    """Return the job of a request for a stream of images. Raises InvalidArgument or FailedPrecondition."""
    job = generate_job(request, version, deadline)
    return replace(job, first=first_index(request.first_index, job.latents.count))


def walk_job(request: pb.InterpolateRequest, version: LoadedVersion, max_key_frames: int, deadline: float) -> Job:
    """Return the job of a request for the frames of a walk. Raises InvalidArgument or FailedPrecondition."""
    keys = latents(request.key_frames, version.metadata, "key_frames")
    frames = walk(request, edited(keys, edits(request.edits, version.directions)), max_key_frames)
    return Job(
        version,
        frames,
        labels(request, version.metadata, keys.count, request.frames_between),
        output_format(request.format),
        deadline,
        priority(request.priority),
        first_index(request.first_index, frames.count),
        even=is_even(request.pace),
    )


def inversion(
    request: pb.InvertRequest, version: LoadedVersion, targets: NDArray[np.uint8], deadline: float
) -> Inversion:
    """Return the pictures whose latents a request asks for. Raises InvalidArgument or FailedPrecondition."""
    metadata = version.metadata
    found = labels(request, metadata, len(targets)) if _has_labels(request) else None
    image = Job(
        version,
        of_rows(np.ones((1, metadata.latent_size), np.float32), metadata.latent_size),
        NO_LABELS,
        output_format(request.format),
        deadline,
        priority(request.priority),
    )
    given = found.rows(0, len(targets)) if found else ()
    effort = of_effort(request.max_evaluations, request.enough_db, request.report_every)
    return Inversion(image, inverting(version), targets, given[0] if given else None, effort)


def inverting(version: LoadedVersion) -> Inverting:
    """Return what finds latents for a version. Raises FailedPrecondition."""
    if version.inverting is None:
        raise FailedPrecondition(
            f"{version.name} version {version.number} was exported without what finds latents of pictures; export it "
            "again: progan export STORE/MODEL/VERSION"
        )
    return version.inverting


def pictures(request: pb.InvertRequest, metadata: ModelMetadata) -> NDArray[np.uint8]:
    """Return the pictures of a request [P, R, R, C]. Raises InvalidArgument. It takes long: call it in a thread."""
    check_pictures(len(request.pictures))
    if request.fit not in _FITS:
        raise InvalidArgument("fit", f"is {request.fit}, which is no Fit")
    fit = _FITS[request.fit]
    targets = []
    for place, content in enumerate(request.pictures):
        with naming(picture=f"pictures[{place}]"):
            targets.append(decoded(content, metadata.resolution, metadata.channels, fit))
    return np.stack(targets)


def latents(message: pb.Latents, metadata: ModelMetadata, field: str = "latents") -> Rows:
    """Return latents [N, L], L being the latent size of the model. Raises InvalidArgument."""
    size = metadata.latent_size
    match message.WhichOneof("source"):
        case "vectors":
            path = f"{field}.vectors"
            with naming(latents=path, rows=f"{path}.rows", columns=f"{path}.columns", values=f"{path}.values"):
                return of_rows(_matrix(message.vectors), size)
        case "seeds":
            with naming(seeds=f"{field}.seeds.seeds"):
                return of_seeds(_seeds(message.seeds), size)
        case "seed_range":
            with naming(count=f"{field}.seed_range.count"):
                return of_range(message.seed_range.first_seed, message.seed_range.count, size)
    raise InvalidArgument(field, "is missing; give vectors, seeds or a seed_range")


def walk(request: pb.InterpolateRequest, keys: Rows, max_key_frames: int) -> Frames:
    """Return the frames of a walk over the key frames, at a uniform pace. Raises InvalidArgument."""
    if request.path not in pb.InterpolationPath.values():
        raise InvalidArgument("path", f"is {request.path}, which is no InterpolationPath")
    path = _PATHS.get(request.path, "spherical")
    return of_walk(keys, request.frames_between, max_key_frames, path=path, loop=request.loop)


def is_even(pace: int) -> bool:
    """Return whether a pace is even; not so where a request leaves it out. Raises InvalidArgument."""
    if pace not in pb.Pace.values():
        raise InvalidArgument("pace", f"is {pace}, which is no Pace")
    return pace == pb.PACE_EVEN


def edits(messages: Sequence[pb.Edit], known: Mapping[str, Direction]) -> Edits | None:
    """Return all edits of a request as one, None for no edits. Raises InvalidArgument or FailedPrecondition."""
    if len(messages) > MAX_EDITS:
        raise InvalidArgument("edits", f"has {len(messages)} edits; at most {MAX_EDITS} are allowed")
    checked = []
    for place, message in enumerate(messages):
        amount, path = message.WhichOneof("amount"), f"edits[{place}]"
        fields = {word: f"{path}.{word}" for word in ("direction", "offset", "set", "hold")}
        with naming(**fields, amount=path):
            edit = of_edit(
                message.direction,
                offset=message.offset if amount == "offset" else None,
                to=message.set if amount == "set" else None,
                hold=message.hold,
                known=known,
            )
        checked.append(edit)
    return of_edits(checked)


def labels(request: Request, metadata: ModelMetadata, count: int, frames_between: int = 0) -> Labels:
    """Return labels [1 or count, K], K being the labels of the model. Raises InvalidArgument or FailedPrecondition."""
    with naming(columns="labels.columns", values="labels.values"):
        given = _matrix(request.labels) if _has_matrix(request) else None
        if request.label_names:
            if given is not None:
                raise InvalidArgument("label_names", "is given, and labels as well; give one of them")
            given = of_label_names(request.label_names, metadata)
        return of_labels(given, metadata, count, frames_between)


def _has_matrix(request: Request) -> bool:
    return bool(request.labels.rows or request.labels.values)


def _has_labels(request: Request) -> bool:
    return _has_matrix(request) or bool(request.label_names)


def output_format(message: pb.OutputFormat) -> Format:
    """Return how images are encoded; raw pixels where a request leaves it out. Raises InvalidArgument."""
    if message.encoding not in pb.ImageEncoding.values():
        raise InvalidArgument("format.encoding", f"is {message.encoding}, which is no ImageEncoding")
    name = pb.ImageEncoding.Name(message.encoding or pb.IMAGE_ENCODING_RAW)
    with naming(quality="format.quality"):
        return of_quality(Encoding(name.removeprefix("IMAGE_ENCODING_")), message.quality)


def priority(value: int) -> Priority:
    """Return a priority; interactive where a request leaves it out. Raises InvalidArgument."""
    match value:
        case pb.PRIORITY_UNSPECIFIED | pb.PRIORITY_INTERACTIVE:
            return Priority.INTERACTIVE
        case pb.PRIORITY_BULK:
            return Priority.BULK
    raise InvalidArgument("priority", f"is {value}, which is no Priority")


def first_index(value: int, count: int) -> int:
    """Return the index of the first image to send, of `count` images. Raises InvalidArgument."""
    if value >= count:
        raise InvalidArgument("first_index", f"is {value}; must be below {count}, the number of images")
    return value


def _matrix(message: pb.FloatMatrix) -> NDArray[np.float32]:
    """Return float32 [rows, columns]. Raise InvalidArgument about `values`."""
    rows, columns = message.rows, message.columns
    if len(message.values) != 4 * rows * columns:
        given, expected = len(message.values), 4 * rows * columns
        raise InvalidArgument("values", f"has {given} bytes; {rows} x {columns} floats take {expected}")
    return np.frombuffer(message.values, "<f4").reshape(rows, columns).astype(np.float32, copy=False)


def _seeds(message: pb.SeedList) -> NDArray[np.uint64]:
    """Return uint64 [N]. Raise InvalidArgument about `seeds`."""
    count = len(message.seeds)
    if count > MAX_SEEDS:
        raise InvalidArgument("seeds", f"lists {count} seeds; at most {MAX_SEEDS} are read, give a seed_range")
    return np.array(message.seeds, np.uint64)
