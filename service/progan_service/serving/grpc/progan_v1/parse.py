"""Requests become arrays, or an InvalidArgument that names the field. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.latents.walks import OppositeLatentsError, check_walk, walk, walk_length
from progan_service.serving.batching.queue import Priority
from progan_service.serving.errors import FailedPrecondition, InvalidArgument
from progan_service.serving.files.encoding import DEFAULT_QUALITY, Encoding
from progan_service.store.metadata import ModelMetadata

MAX_SEEDS = 1_000_000  # one after the other in a message; to read more would hold up the event loop


@dataclass(frozen=True)
class Latents:
    """The latents of a request, made when they are needed: a stream may ask for very many."""

    count: int
    _rows: NDArray[np.float32] | None
    _seeds: NDArray[np.uint64] | None
    _first_seed: int
    _size: int

    @classmethod
    def parse(cls, message: pb.Latents, metadata: ModelMetadata, field: str = "latents") -> "Latents":
        """Raises InvalidArgument."""
        size = metadata.latent_size
        match message.WhichOneof("source"):
            case "vectors":
                rows = matrix(message.vectors, f"{field}.vectors", columns=size, what="latent_size of the model")
                if not np.any(rows, axis=1).all():
                    row = int(np.argmin(np.any(rows, axis=1)))
                    raise InvalidArgument(f"{field}.vectors", f"row {row} is all zero; a latent needs a direction")
                return cls(len(rows), rows, None, 0, size)
            case "seeds":
                count = len(message.seeds.seeds)
                _require_some(count, f"{field}.seeds.seeds")
                if count > MAX_SEEDS:
                    raise InvalidArgument(
                        f"{field}.seeds.seeds", f"lists {count} seeds; at most {MAX_SEEDS} are read, give a seed_range"
                    )
                seeds = np.array(message.seeds.seeds, np.uint64)
                return cls(len(seeds), None, seeds, 0, size)
            case "seed_range":
                _require_some(message.seed_range.count, f"{field}.seed_range.count")
                return cls(message.seed_range.count, None, None, message.seed_range.first_seed, size)
        raise InvalidArgument(field, "is missing; give vectors, seeds or a seed_range")

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Latents start ... stop - 1, [stop - start, L]."""
        if self._rows is not None:
            return self._rows[start:stop]
        return latents_from_seeds(self._seed_array(start, stop), self._size)

    def seeds(self, start: int, stop: int) -> list[int] | None:
        """The seeds of the latents start ... stop - 1; None when the request gave vectors."""
        if self._rows is not None:
            return None
        return [int(seed) for seed in self._seed_array(start, stop)]

    def _seed_array(self, start: int, stop: int) -> NDArray[np.uint64]:
        if self._seeds is not None:
            return self._seeds[start:stop]
        return seed_range((self._first_seed + start) % 2**64, stop - start)


@dataclass(frozen=True)
class Walk:
    """The frames of an interpolation, made when they are needed."""

    count: int
    _keys: NDArray[np.float32]
    _frames_between: int
    _spherical: bool

    @property
    def key_frames(self) -> int:
        return len(self._keys)

    @classmethod
    def parse(cls, request: pb.InterpolateRequest, metadata: ModelMetadata, max_key_frames: int) -> "Walk":
        """Raises InvalidArgument."""
        keys = Latents.parse(request.key_frames, metadata, "key_frames")
        if not 2 <= keys.count <= max_key_frames:
            raise InvalidArgument("key_frames", f"holds {keys.count} latents; 2 to {max_key_frames} are allowed")
        if request.path not in pb.InterpolationPath.values():
            raise InvalidArgument("path", f"is {request.path}, which is no InterpolationPath")
        spherical = request.path != pb.INTERPOLATION_PATH_LINEAR
        rows = keys.rows(0, keys.count)
        if spherical:
            try:
                check_walk(rows, request.loop)
            except OppositeLatentsError as error:
                raise InvalidArgument("key_frames", f"{error}; a spherical path between them is undefined") from error
        count = walk_length(keys.count, request.frames_between, request.loop)
        return cls(count, rows, request.frames_between, spherical)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Latents of the frames start ... stop - 1, [stop - start, L]."""
        return walk(self._keys, self._frames_between, start, stop - start, spherical=self._spherical)

    def seeds(self, start: int, stop: int) -> None:
        """A frame has no seed, not even a key frame: it is a place on the walk."""


@dataclass(frozen=True)
class Labels:
    """Labels per image: none, one row for all, or one a key frame (interpolated linearly) or image."""

    _rows: NDArray[np.float32] | None
    _frames_between: int = 0

    @classmethod
    def parse(cls, message: pb.FloatMatrix, metadata: ModelMetadata, count: int, frames_between: int = 0) -> "Labels":
        """A request may give one row, or `count`. Raises InvalidArgument, FailedPrecondition."""
        if not metadata.label_count:
            if message.rows or message.values:
                raise FailedPrecondition("labels were given, and this model has none")
            return cls(None)
        if not message.rows:
            meaning = f": {', '.join(metadata.label_names)}" if metadata.label_names else ""
            rule = f"is missing; the model needs rows of {metadata.label_count} floats"
            raise InvalidArgument("labels", rule + meaning)
        rows = matrix(message, "labels", columns=metadata.label_count, what="label_count of the model")
        if len(rows) not in (1, count):
            raise InvalidArgument("labels", f"has {len(rows)} rows; give 1 for all images or {count}, one for each")
        return cls(rows, frames_between)

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.float32], ...]:
        """A 1-tuple with labels [stop - start, K], or an empty one."""
        if self._rows is None:
            return ()
        if len(self._rows) == 1:
            return (np.repeat(self._rows, stop - start, axis=0),)
        return (walk(self._rows, self._frames_between, start, stop - start, spherical=False),)


@dataclass(frozen=True)
class Format:
    """How the images of a reply travel."""

    encoding: Encoding
    quality: int

    @classmethod
    def parse(cls, message: pb.OutputFormat) -> "Format":
        """Raises InvalidArgument."""
        if message.encoding not in pb.ImageEncoding.values():
            raise InvalidArgument("format.encoding", f"is {message.encoding}, which is no ImageEncoding")
        name = pb.ImageEncoding.Name(message.encoding or pb.IMAGE_ENCODING_RAW)
        encoding = Encoding(name.removeprefix("IMAGE_ENCODING_"))
        if message.quality and not encoding.takes_quality:
            raise InvalidArgument("format.quality", f"is {message.quality}, but {encoding} loses nothing; leave it out")
        if message.quality > 100:
            raise InvalidArgument("format.quality", f"is {message.quality}; must lie between 1 and 100")
        return cls(encoding, message.quality or DEFAULT_QUALITY)


def parse_priority(value: int) -> Priority:
    """Raises InvalidArgument."""
    match value:
        case pb.PRIORITY_UNSPECIFIED | pb.PRIORITY_INTERACTIVE:
            return Priority.INTERACTIVE
        case pb.PRIORITY_BULK:
            return Priority.BULK
    raise InvalidArgument("priority", f"is {value}, which is no Priority")


def matrix(message: pb.FloatMatrix, field: str, *, columns: int, what: str) -> NDArray[np.float32]:
    """float32 [rows, columns], every value finite. Raises InvalidArgument."""
    _require_some(message.rows, f"{field}.rows")
    if message.columns != columns:
        raise InvalidArgument(f"{field}.columns", f"is {message.columns}; must be {columns}, the {what}")
    expected = 4 * message.rows * message.columns
    if len(message.values) != expected:
        raise InvalidArgument(
            f"{field}.values", f"has {len(message.values)} bytes; {message.rows} x {columns} floats take {expected}"
        )
    rows = np.frombuffer(message.values, "<f4").reshape(message.rows, columns).astype(np.float32, copy=False)
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise InvalidArgument(f"{field}.values", f"row {row}, column {column} is {rows[row, column]}; must be finite")
    return rows


def _require_some(count: int, field: str) -> None:
    if count == 0:
        raise InvalidArgument(field, "is empty; at least one image must be asked for")
