"""A network that gives images features, for FID and its like: any SavedModel or TF Hub module.

It takes images float32 [N, H, W, 3] and gives [N, F]. The images are scaled bilinearly, without a filter against
aliasing, as TF-GAN does, to the size that the network takes; to 299x299, that of Inception, if it takes any. Grey
counts as three equal colours. A network is a program that TensorFlow runs: load those you trust.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.errors import BadInputError
from progan_service.sources.tfhub.fetch import fetch
from progan_service.sources.tfhub.module import SIGNATURES, TF1_HUB_MARK

RANGES = {"signed": (2 / 255, -1.0), "unit": (1 / 255, 0.0), "byte": (1.0, 0.0)}  # gain and offset of a byte

_ANY_SIZE = (299, 299)
_POOL = "pool_3"  # of several outputs, the one for FID: the name that TF-GAN's Inception gives it
_BATCH = 32


class ExtractorError(BadInputError):
    """A module that gives images no features; the message names it and the reason."""


@dataclass(frozen=True)
class Extractor:
    """A network that gives images features.

    network       images float32 [N, *size, 3] -> features [N, F]
    origin        the handle, or the name of the local file or directory
    sha256        of its content
    size          height and width of the images that it takes, in pixels
    value_range   a key of RANGES
    """

    network: Callable[[Any], Any]
    origin: str
    sha256: str
    size: tuple[int, int]
    value_range: str

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the features [N, F] of images [N, R, R, C]. Raises ExtractorError unless they are finite numbers."""
        parts = [self._features(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise ExtractorError(f"{self.origin}: gives features that are not finite; another --feature-range may help")
        return features

    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        gain, offset = RANGES[self.value_range]
        colour = tf.cast(images.repeat(3 // images.shape[3], axis=3), tf.float32)
        scaled = tf.image.resize(colour, self.size, method="bilinear") * gain + offset
        try:
            found = np.asarray(self.network(scaled), np.float64)
        except ExtractorError:
            raise
        except Exception as error:  # of a foreign graph
            raise ExtractorError(f"{self.origin}: cannot take images: {_first_line(error)}") from error
        if found.ndim < 2 or len(found) != len(images):
            raise ExtractorError(
                f"{self.origin}: gives {list(found.shape)} of {len(images)} images; features are [N, F]"
            )
        return found.reshape(len(images), -1)


def open_extractor(
    source: str, staging: Path, *, value_range: str, progress: Callable[[str, int, int], None]
) -> Extractor:
    """Load a network.

    source        as `fetch` takes it: a TF Hub handle, an archive or a directory
    staging       a directory for downloaded and unpacked files; keep it while the network is used
    value_range   what it takes, a key of RANGES: "signed" -1..1, "unit" 0..1, "byte" 0..255
    Raises HubModuleError for what cannot be fetched or read, ExtractorError for what takes no images.
    """
    fetched = fetch(source, staging, progress=progress)
    tags: list[str] | None = [] if (fetched.directory / TF1_HUB_MARK).is_file() else None
    try:
        loaded = tf.saved_model.load(str(fetched.directory), tags=tags)
    except Exception as error:
        raise ExtractorError(f"{fetched.origin}: TensorFlow cannot load it: {_first_line(error)}") from error
    network, takes = _network(fetched.origin, loaded)
    return Extractor(network, fetched.origin, fetched.sha256, _size(fetched.origin, takes), value_range)


def _network(origin: str, loaded: Any) -> tuple[Callable[[Any], Any], Any]:
    """Return the function from images to features, and the TensorSpec of what it takes, None if that is unknown.

    It is the signature `default`, `serving_default` or the only one; without one, the module itself is called.
    """
    signatures = dict(loaded.signatures)
    known = [name for name in SIGNATURES if name in signatures] or list(signatures)
    if not known and callable(loaded):
        return lambda images: _chosen(origin, loaded(images)), None
    if not known or (known[0] not in SIGNATURES and len(known) > 1):
        found = ", ".join(sorted(signatures)) or "none"
        raise ExtractorError(f"{origin}: has no signature {' or '.join(SIGNATURES)}, but {found}")
    inputs = signatures[known[0]].structured_input_signature[1]
    if len(inputs) != 1:
        raise ExtractorError(f"{origin}: takes {', '.join(sorted(inputs)) or 'nothing'}; must take images alone")
    ((name, takes),) = inputs.items()
    # Weights live as long as `loaded` is referred to.
    return lambda images: _chosen(origin, loaded.signatures[known[0]](**{name: images})), takes


def _chosen(origin: str, outputs: Any) -> Any:
    """Return the features among what a network gives."""
    if not isinstance(outputs, dict):
        return outputs
    if len(outputs) > 1 and _POOL not in outputs:
        found = ", ".join(sorted(outputs))
        raise ExtractorError(f"{origin}: gives {found}; must give one output, or one named {_POOL}")
    return outputs.get(_POOL, next(iter(outputs.values())))


def _size(origin: str, takes: Any) -> tuple[int, int]:
    """Return height and width of the images that a network takes."""
    if takes is None:
        return _ANY_SIZE
    shape = takes.shape.as_list() if takes.shape.rank is not None else [None] * 4
    if takes.dtype != tf.float32 or len(shape) != 4 or shape[3] not in (3, None):
        shown = str(shape).replace("None", "?")
        raise ExtractorError(f"{origin}: takes {takes.dtype.name} {shown}; must take images, float32 [?, H, W, 3]")
    height, width = shape[1:3]
    return (height or _ANY_SIZE[0], width or _ANY_SIZE[1])


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]
