"""`invert.npz`: the guide of a version, by which servers find the latents of images. One of the version's files.

    format_version       1
    mean, matrix         float32 [D] and [D, L]: the encoder
    metric               float32 [L, L]
    cosine               float32; these four as in `Guide`
    bank_seeds           uint64 [2]: the first seed of the images that it was made of, and how many they are

A small image has 16 x 16 pixels, or those of the image if they are fewer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan_service import formats
from progan_service.host.arrays import DamagedArrayError, read_archive
from progan_service.latents.inversion.guide import Guide
from progan_service.store.metadata import ModelMetadata

GUIDE_FILE = "invert.npz"
FORMAT_VERSION = 1
MAX_GUIDE_BYTES = 2**30  # unpacked; latents of 512 numbers take 2.6 MB

_SMALL_SIDE = 16


def save_guide(guide: Guide, bank_seeds: tuple[int, int], path: Path) -> None:
    """Write the file."""
    np.savez(
        path,
        format_version=np.int64(FORMAT_VERSION),
        mean=guide.mean,
        matrix=guide.matrix,
        metric=guide.metric,
        cosine=np.float32(guide.cosine),
        bank_seeds=np.array(bank_seeds, np.uint64),
    )


def read_guide(path: Path, metadata: ModelMetadata) -> Guide:
    """Return the guide that a file holds. Raises FormatError, which names the value and its rule, and OSError."""
    try:
        arrays = read_archive(path, MAX_GUIDE_BYTES)
    except DamagedArrayError as error:
        raise formats.FormatError(f"is damaged ({error})") from error
    formats.check_version(_number(arrays, formats.VERSION_KEY, np.int64), FORMAT_VERSION)
    size = metadata.latent_size
    small = min(metadata.resolution, _SMALL_SIDE) ** 2 * metadata.channels
    return Guide(
        _finite(arrays, "mean", (small,)),
        _finite(arrays, "matrix", (small, size)),
        _finite(arrays, "metric", (size, size)),
        _number(arrays, "cosine", np.float32),
    )


def _finite(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    array = _array(arrays, name, shape, np.float32)
    formats.require(bool(np.isfinite(array).all()), name, "not finite everywhere", "finite")
    return array


def _number(arrays: Mapping[str, NDArray[Any]], name: str, dtype: Any) -> Any:
    return _array(arrays, name, (), dtype).item()


def _array(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    formats.require(name in arrays, name, "missing", f"{np.dtype(dtype)} {shape}")
    array = arrays[name]
    is_right = array.shape == shape and array.dtype == dtype
    formats.require(is_right, name, f"{array.dtype} {array.shape}", f"{np.dtype(dtype)} {shape}")
    return array
