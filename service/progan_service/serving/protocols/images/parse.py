"""The words of an image's address become a job, or an InvalidArgument that names the word. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from progan_service.serving.batching.work import Priority
from progan_service.serving.errors import InvalidArgument, naming
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format, of_quality
from progan_service.serving.jobs.job import Job
from progan_service.serving.jobs.rows import Labels, of_label_names, of_labels, of_range
from progan_service.serving.models.version import LoadedVersion
from progan_service.store.metadata import ModelMetadata

KINDS = {"png": Encoding.PNG, "jpg": Encoding.JPEG, "jpeg": Encoding.JPEG, "webp": Encoding.WEBP}  # by ending

_LAST_SEED = 2**64 - 1


@dataclass(frozen=True)
class ImageRequest:
    """An image, as its address names it; '' stands for what is left out.

    kind     the ending: png, jpg, jpeg or webp
    version  a number or a version label
    labels   names: one class, or the attributes that hold
    known    the tags of the image that the caller has already; "*" stands for any
    """

    model: str
    seed: str
    kind: str
    version: str = ""
    labels: tuple[str, ...] = ()
    quality: str = ""
    known: tuple[str, ...] = ()


def selection(request: ImageRequest) -> tuple[str, int, str]:
    """Return name, number and label of the selected version; 0 and '' for what is not given."""
    number = _is_number(request.version)
    if number and len(request.version) > 18:
        raise InvalidArgument("version", f"is {request.version}; no version has so high a number")
    return (request.model, int(request.version), "") if number else (request.model, 0, request.version)


def job(request: ImageRequest, version: LoadedVersion, deadline: float) -> Job:
    """Return the job of one image. Raise InvalidArgument or FailedPrecondition."""
    if not (_is_number(request.seed) and len(request.seed) <= 20 and int(request.seed) <= _LAST_SEED):
        raise InvalidArgument("seed", f"is {request.seed[:40]!r}; must be a number from 0 to {_LAST_SEED}")
    with naming(label_names="label", labels="label"):
        return Job(
            version,
            of_range(int(request.seed), 1, version.metadata.latent_size),
            _labels(request.labels, version.metadata),
            _format(request),
            deadline,
            Priority.INTERACTIVE,
        )


def _labels(names: Sequence[str], metadata: ModelMetadata) -> Labels:
    return of_labels(of_label_names(names, metadata) if names else None, metadata, 1)


def _format(request: ImageRequest) -> Format:
    encoding = KINDS.get(request.kind.lower())
    if encoding is None:
        raise InvalidArgument("ending", f"is {request.kind[:40]!r}; must be {', '.join(KINDS)}")
    if request.quality and not (_is_number(request.quality) and len(request.quality) <= 3):
        raise InvalidArgument("quality", f"is {request.quality[:40]!r}; must lie between 1 and 100")
    return of_quality(encoding, int(request.quality or 0))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
