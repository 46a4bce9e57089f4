"""Arrays in files. A damaged file ends in one sentence, and its headers can claim no memory."""

import errno
import hashlib
import math
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class DamagedArrayError(ValueError):
    """The content is no array. The message follows the name of the file in a sentence."""


def read_array(content: bytes) -> NDArray[Any]:
    """Return the array that a .npy file holds, read-only. Raises DamagedArrayError; objects are never unpickled."""
    stream = BytesIO(content)
    try:
        shape, column_order, dtype = _READERS[npy.read_magic(stream)](stream)
    except Exception as error:  # a damaged header leads NumPy's parser to errors of many kinds
        raise DamagedArrayError("its header is damaged, or of another format") from error
    if dtype.hasobject:
        raise DamagedArrayError("it holds Python objects, which are never read")
    begin, size = stream.tell(), math.prod(shape) * dtype.itemsize
    if size != len(content) - begin:
        raise DamagedArrayError(f"its header promises {size} bytes of data, there are {len(content) - begin}")
    array = np.frombuffer(content, np.uint8, offset=begin).view(dtype) if size else np.empty(0, dtype)
    return array.reshape(shape, order="F" if column_order else "C")


def read_archive(path: Path, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file by name, read-only.

    max_bytes   of the arrays together, unpacked
    Raises DamagedArrayError, naming the array, for a damaged or larger archive, and OSError.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _arrays(archive, max_bytes)
        except DamagedArrayError:
            raise
        except Exception as error:  # a damaged archive leads zipfile to errors of many kinds
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a place before the file
                raise
            raise DamagedArrayError(str(error) or type(error).__name__) from error


def _arrays(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, NDArray[Any]]:
    entries = archive.infolist()
    if (size := sum(entry.file_size for entry in entries)) > max_bytes:
        raise DamagedArrayError(f"its arrays take {size} bytes: must be at most {max_bytes}")
    arrays = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        try:
            arrays[name] = read_array(archive.read(entry))  # the archive's checksum is verified first
        except DamagedArrayError as error:
            raise DamagedArrayError(f"{name!r}: {error}") from error
    return arrays


def digest_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256, in hexadecimal, of arrays with their names, types and shapes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
