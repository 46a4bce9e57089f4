"""The format of a job's images."""

from dataclasses import dataclass

from progan_service.serving.errors import InvalidArgument
from progan_service.serving.files.encoding import DEFAULT_QUALITY, Encoding


@dataclass(frozen=True)
class Format:
    """How images are encoded; `quality` is 1 to 100 and matters for lossy encodings only."""

    encoding: Encoding
    quality: int = DEFAULT_QUALITY


def of_quality(encoding: Encoding, quality: int) -> Format:
    """Return the format with this quality, or with the default one for 0. Raise InvalidArgument."""
    if quality and not encoding.takes_quality:
        raise InvalidArgument("quality", f"is {quality}, but {encoding} loses nothing; leave it out")
    if not 0 <= quality <= 100:
        raise InvalidArgument("quality", f"is {quality}; must lie between 1 and 100")
    return Format(encoding, quality or DEFAULT_QUALITY)
