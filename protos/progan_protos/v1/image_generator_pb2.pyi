import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_ENCODING_UNSPECIFIED: _ClassVar[ImageEncoding]
    IMAGE_ENCODING_RAW: _ClassVar[ImageEncoding]
    IMAGE_ENCODING_PNG: _ClassVar[ImageEncoding]
    IMAGE_ENCODING_JPEG: _ClassVar[ImageEncoding]
    IMAGE_ENCODING_WEBP: _ClassVar[ImageEncoding]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class InterpolationPath(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERPOLATION_PATH_UNSPECIFIED: _ClassVar[InterpolationPath]
    INTERPOLATION_PATH_SPHERICAL: _ClassVar[InterpolationPath]
    INTERPOLATION_PATH_LINEAR: _ClassVar[InterpolationPath]
    INTERPOLATION_PATH_SMOOTH: _ClassVar[InterpolationPath]

class Pace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACE_UNSPECIFIED: _ClassVar[Pace]
    PACE_UNIFORM: _ClassVar[Pace]
    PACE_EVEN: _ClassVar[Pace]

class Fit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FIT_UNSPECIFIED: _ClassVar[Fit]
    FIT_CROP: _ClassVar[Fit]
    FIT_PAD: _ClassVar[Fit]
    FIT_STRETCH: _ClassVar[Fit]

class InversionEnd(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INVERSION_END_UNSPECIFIED: _ClassVar[InversionEnd]
    INVERSION_END_ENOUGH: _ClassVar[InversionEnd]
    INVERSION_END_BUDGET: _ClassVar[InversionEnd]
    INVERSION_END_NO_GAIN: _ClassVar[InversionEnd]
    INVERSION_END_DEADLINE: _ClassVar[InversionEnd]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_AVAILABLE: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
    MODEL_STATE_DRAINING: _ClassVar[ModelState]

class LabelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_KIND_UNSPECIFIED: _ClassVar[LabelKind]
    LABEL_KIND_CLASSES: _ClassVar[LabelKind]
    LABEL_KIND_ATTRIBUTES: _ClassVar[LabelKind]

class DirectionOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_ORIGIN_UNSPECIFIED: _ClassVar[DirectionOrigin]
    DIRECTION_ORIGIN_FITTED: _ClassVar[DirectionOrigin]
    DIRECTION_ORIGIN_DISCOVERED: _ClassVar[DirectionOrigin]
IMAGE_ENCODING_UNSPECIFIED: ImageEncoding
IMAGE_ENCODING_RAW: ImageEncoding
IMAGE_ENCODING_PNG: ImageEncoding
IMAGE_ENCODING_JPEG: ImageEncoding
IMAGE_ENCODING_WEBP: ImageEncoding
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
INTERPOLATION_PATH_UNSPECIFIED: InterpolationPath
INTERPOLATION_PATH_SPHERICAL: InterpolationPath
INTERPOLATION_PATH_LINEAR: InterpolationPath
INTERPOLATION_PATH_SMOOTH: InterpolationPath
PACE_UNSPECIFIED: Pace
PACE_UNIFORM: Pace
PACE_EVEN: Pace
FIT_UNSPECIFIED: Fit
FIT_CROP: Fit
FIT_PAD: Fit
FIT_STRETCH: Fit
INVERSION_END_UNSPECIFIED: InversionEnd
INVERSION_END_ENOUGH: InversionEnd
INVERSION_END_BUDGET: InversionEnd
INVERSION_END_NO_GAIN: InversionEnd
INVERSION_END_DEADLINE: InversionEnd
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_AVAILABLE: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_FAILED: ModelState
MODEL_STATE_DRAINING: ModelState
LABEL_KIND_UNSPECIFIED: LabelKind
LABEL_KIND_CLASSES: LabelKind
LABEL_KIND_ATTRIBUTES: LabelKind
DIRECTION_ORIGIN_UNSPECIFIED: DirectionOrigin
DIRECTION_ORIGIN_FITTED: DirectionOrigin
DIRECTION_ORIGIN_DISCOVERED: DirectionOrigin

class ModelSelector(_message.Message):
    __slots__ = ("name", "version", "version_label")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_LABEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    version_label: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., version_label: _Optional[str] = ...) -> None: ...

class FloatMatrix(_message.Message):
    __slots__ = ("rows", "columns", "values")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    values: bytes
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class Latents(_message.Message):
    __slots__ = ("vectors", "seeds", "seed_range")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    SEED_RANGE_FIELD_NUMBER: _ClassVar[int]
    vectors: FloatMatrix
    seeds: SeedList
    seed_range: SeedRange
    def __init__(self, vectors: _Optional[_Union[FloatMatrix, _Mapping]] = ..., seeds: _Optional[_Union[SeedList, _Mapping]] = ..., seed_range: _Optional[_Union[SeedRange, _Mapping]] = ...) -> None: ...

class SeedList(_message.Message):
    __slots__ = ("seeds",)
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    seeds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, seeds: _Optional[_Iterable[int]] = ...) -> None: ...

class SeedRange(_message.Message):
    __slots__ = ("first_seed", "count")
    FIRST_SEED_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first_seed: int
    count: int
    def __init__(self, first_seed: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class OutputFormat(_message.Message):
    __slots__ = ("encoding", "quality")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    encoding: ImageEncoding
    quality: int
    def __init__(self, encoding: _Optional[_Union[ImageEncoding, str]] = ..., quality: _Optional[int] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("direction", "offset", "set", "hold")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    direction: str
    offset: float
    set: float
    hold: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, direction: _Optional[str] = ..., offset: _Optional[float] = ..., set: _Optional[float] = ..., hold: _Optional[_Iterable[str]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("model", "latents", "labels", "format", "priority", "label_names", "edits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    latents: Latents
    labels: FloatMatrix
    format: OutputFormat
    priority: Priority
    label_names: _containers.RepeatedScalarFieldContainer[str]
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ..., latents: _Optional[_Union[Latents, _Mapping]] = ..., labels: _Optional[_Union[FloatMatrix, _Mapping]] = ..., format: _Optional[_Union[OutputFormat, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., label_names: _Optional[_Iterable[str]] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("images", "latents", "model", "times")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    images: Images
    latents: FloatMatrix
    model: ServedModel
    times: StageTimes
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[FloatMatrix, _Mapping]] = ..., model: _Optional[_Union[ServedModel, _Mapping]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ...) -> None: ...

class StreamGenerateRequest(_message.Message):
    __slots__ = ("model", "latents", "labels", "format", "priority", "first_index", "label_names", "edits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    latents: Latents
    labels: FloatMatrix
    format: OutputFormat
    priority: Priority
    first_index: int
    label_names: _containers.RepeatedScalarFieldContainer[str]
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ..., latents: _Optional[_Union[Latents, _Mapping]] = ..., labels: _Optional[_Union[FloatMatrix, _Mapping]] = ..., format: _Optional[_Union[OutputFormat, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., first_index: _Optional[int] = ..., label_names: _Optional[_Iterable[str]] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ...) -> None: ...

class StreamGenerateResponse(_message.Message):
    __slots__ = ("first_index", "images", "latents", "model", "times")
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    first_index: int
    images: Images
    latents: FloatMatrix
    model: ServedModel
    times: StageTimes
    def __init__(self, first_index: _Optional[int] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[FloatMatrix, _Mapping]] = ..., model: _Optional[_Union[ServedModel, _Mapping]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ...) -> None: ...

class InterpolateRequest(_message.Message):
    __slots__ = ("model", "key_frames", "frames_between", "path", "loop", "labels", "format", "priority", "first_index", "label_names", "edits", "pace")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    KEY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_BETWEEN_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    LOOP_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    key_frames: Latents
    frames_between: int
    path: InterpolationPath
    loop: bool
    labels: FloatMatrix
    format: OutputFormat
    priority: Priority
    first_index: int
    label_names: _containers.RepeatedScalarFieldContainer[str]
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    pace: Pace
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ..., key_frames: _Optional[_Union[Latents, _Mapping]] = ..., frames_between: _Optional[int] = ..., path: _Optional[_Union[InterpolationPath, str]] = ..., loop: bool = ..., labels: _Optional[_Union[FloatMatrix, _Mapping]] = ..., format: _Optional[_Union[OutputFormat, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., first_index: _Optional[int] = ..., label_names: _Optional[_Iterable[str]] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., pace: _Optional[_Union[Pace, str]] = ...) -> None: ...

class InterpolateResponse(_message.Message):
    __slots__ = ("first_index", "images", "latents", "model", "times")
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    first_index: int
    images: Images
    latents: FloatMatrix
    model: ServedModel
    times: StageTimes
    def __init__(self, first_index: _Optional[int] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[FloatMatrix, _Mapping]] = ..., model: _Optional[_Union[ServedModel, _Mapping]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ...) -> None: ...

class InvertRequest(_message.Message):
    __slots__ = ("model", "pictures", "fit", "labels", "label_names", "format", "priority", "max_evaluations", "enough_db", "report_every")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    ENOUGH_DB_FIELD_NUMBER: _ClassVar[int]
    REPORT_EVERY_FIELD_NUMBER: _ClassVar[int]
    model: ModelSelector
    pictures: _containers.RepeatedScalarFieldContainer[bytes]
    fit: Fit
    labels: FloatMatrix
    label_names: _containers.RepeatedScalarFieldContainer[str]
    format: OutputFormat
    priority: Priority
    max_evaluations: int
    enough_db: float
    report_every: int
    def __init__(self, model: _Optional[_Union[ModelSelector, _Mapping]] = ..., pictures: _Optional[_Iterable[bytes]] = ..., fit: _Optional[_Union[Fit, str]] = ..., labels: _Optional[_Union[FloatMatrix, _Mapping]] = ..., label_names: _Optional[_Iterable[str]] = ..., format: _Optional[_Union[OutputFormat, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., max_evaluations: _Optional[int] = ..., enough_db: _Optional[float] = ..., report_every: _Optional[int] = ...) -> None: ...

class InvertResponse(_message.Message):
    __slots__ = ("picture", "evaluations", "psnr_db", "latents", "labels", "images", "end", "model", "times")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    picture: int
    evaluations: int
    psnr_db: float
    latents: FloatMatrix
    labels: FloatMatrix
    images: Images
    end: InversionEnd
    model: ServedModel
    times: StageTimes
    def __init__(self, picture: _Optional[int] = ..., evaluations: _Optional[int] = ..., psnr_db: _Optional[float] = ..., latents: _Optional[_Union[FloatMatrix, _Mapping]] = ..., labels: _Optional[_Union[FloatMatrix, _Mapping]] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., end: _Optional[_Union[InversionEnd, str]] = ..., model: _Optional[_Union[ServedModel, _Mapping]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ...) -> None: ...

class Images(_message.Message):
    __slots__ = ("encoding", "count", "height", "width", "channels", "pixels", "files")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    encoding: ImageEncoding
    count: int
    height: int
    width: int
    channels: int
    pixels: bytes
    files: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, encoding: _Optional[_Union[ImageEncoding, str]] = ..., count: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ..., pixels: _Optional[bytes] = ..., files: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("queue", "inference", "encode")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    queue: _duration_pb2.Duration
    inference: _duration_pb2.Duration
    encode: _duration_pb2.Duration
    def __init__(self, queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., inference: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "versions", "is_default", "serving_version", "pinned_version", "version_labels", "error")
    class VersionLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    PINNED_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_LABELS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    is_default: bool
    serving_version: int
    pinned_version: int
    version_labels: _containers.ScalarMap[str, int]
    error: str
    def __init__(self, name: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ..., is_default: bool = ..., serving_version: _Optional[int] = ..., pinned_version: _Optional[int] = ..., version_labels: _Optional[_Mapping[str, int]] = ..., error: _Optional[str] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("version", "state", "error", "digest", "latent_size", "resolution", "channels", "label_count", "label_names", "provenance", "memory_bytes", "label_kind", "directions", "can_invert")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LATENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LABEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABEL_KIND_FIELD_NUMBER: _ClassVar[int]
    DIRECTIONS_FIELD_NUMBER: _ClassVar[int]
    CAN_INVERT_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: ModelState
    error: str
    digest: str
    latent_size: int
    resolution: int
    channels: int
    label_count: int
    label_names: _containers.RepeatedScalarFieldContainer[str]
    provenance: _struct_pb2.Struct
    memory_bytes: int
    label_kind: LabelKind
    directions: _containers.RepeatedCompositeFieldContainer[Direction]
    can_invert: bool
    def __init__(self, version: _Optional[int] = ..., state: _Optional[_Union[ModelState, str]] = ..., error: _Optional[str] = ..., digest: _Optional[str] = ..., latent_size: _Optional[int] = ..., resolution: _Optional[int] = ..., channels: _Optional[int] = ..., label_count: _Optional[int] = ..., label_names: _Optional[_Iterable[str]] = ..., provenance: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., label_kind: _Optional[_Union[LabelKind, str]] = ..., directions: _Optional[_Iterable[_Union[Direction, _Mapping]]] = ..., can_invert: bool = ...) -> None: ...

class Direction(_message.Message):
    __slots__ = ("name", "origin", "r", "monotone", "shift_sd")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    MONOTONE_FIELD_NUMBER: _ClassVar[int]
    SHIFT_SD_FIELD_NUMBER: _ClassVar[int]
    name: str
    origin: DirectionOrigin
    r: float
    monotone: float
    shift_sd: float
    def __init__(self, name: _Optional[str] = ..., origin: _Optional[_Union[DirectionOrigin, str]] = ..., r: _Optional[float] = ..., monotone: _Optional[float] = ..., shift_sd: _Optional[float] = ...) -> None: ...
