"""Arrays of images: NumPy's .npy and .npz, and the idx files of MNIST. Each image is given as a PNG."""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.errors import DatasetError
from progan_service.data.making.collection.files import LeftOut, SourceFile
from progan_service.data.making.collection.unpacking import Scratch, spooled

_IDX_UINT8 = b"\0\0\x08"
_RULE = "must be uint8 [N, H, W], [N, H, W, 1], [N, H, W, 3] or [N, H, W, 4], with pixels from 0 to 255"


class _NoImagesError(Exception):
    """An array contains no images. The message follows its name in a sentence."""


def is_array(head: bytes) -> bool:
    """Tell whether a file that begins like this is a .npy or an idx file."""
    return head.startswith(npy.MAGIC_PREFIX) or (
        head.startswith(_IDX_UINT8) and head[3:4] in (b"\1", b"\2", b"\3", b"\4")
    )


def is_npz(archive: zipfile.ZipFile) -> bool:
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def array_files(source: Path, file: IO[bytes]) -> Iterator[SourceFile]:
    """Yield the images of an open .npy or idx file, named by their index. Raises DatasetError for other arrays."""
    try:
        yield from _images("", _mapped(file))
    except _NoImagesError as error:
        raise DatasetError(f"{source}: {error}: {_RULE}") from None


@contextmanager
def npz_files(archive: zipfile.ZipFile, source: Path, scratch: Scratch) -> Iterator[list[SourceFile | LeftOut]]:
    """Yield the images of all arrays in an .npz, named ARRAY/INDEX. Arrays of another shape or type are left out."""
    found: list[SourceFile | LeftOut] = []
    with ExitStack() as stack:
        for member in archive.infolist():
            name = PurePosixPath(member.filename).with_suffix("").as_posix()
            with archive.open(member) as content:
                file = stack.enter_context(spooled(content, source, scratch))
            try:
                found.extend(_images(f"{name}/", _mapped(file)))
            except _NoImagesError as error:
                found.append(LeftOut(name, str(error)))
        yield found


def _images(prefix: str, images: NDArray[Any]) -> Iterator[SourceFile]:
    shape = list(images.shape)
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or (images.ndim == 4 and shape[3] not in (1, 3, 4))
        or 0 in shape
    ):
        raise _NoImagesError(f"is an array of {images.dtype} {shape}")

    def read(index: int, limit: int | None) -> bytes:
        return _png(images[index])[:limit]

    digits = len(str(len(images) - 1))
    for index in range(len(images)):
        yield SourceFile(f"{prefix}{index:0{digits}d}.png", read, index)


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    pixels = image[..., 0] if image.shape[2:] == (1,) else image
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def _mapped(file: IO[bytes]) -> NDArray[Any]:
    """Return the array of an open .npy or idx file, whose pixels are read when they are needed."""
    file.seek(0)
    head = file.read(4)
    if head[:3] == _IDX_UINT8:
        shape: tuple[int, ...] = tuple(int.from_bytes(file.read(4)) for _ in range(head[3]))
        fortran, dtype = False, np.dtype(np.uint8)
    else:
        file.seek(0)
        version = npy.read_magic(file)
        shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise _NoImagesError("is an array of Python objects, which are not read")
    start, size = file.tell(), math.prod(shape) * dtype.itemsize
    if file.seek(0, 2) < start + size:
        raise EOFError(f"the array of shape {list(shape)} is cut off")
    if not size:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")
