"""Pixels become picture files. Pure functions; the same pixels give the same bytes."""

import io
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DEFAULT_QUALITY = 90


class Encoding(StrEnum):
    """How images travel; RAW is the pixels themselves."""

    RAW = "RAW"
    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"

    @property
    def takes_quality(self) -> bool:
        return self in (Encoding.JPEG, Encoding.WEBP)


def encode(pixels: NDArray[np.uint8], encoding: Encoding, quality: int = DEFAULT_QUALITY) -> list[bytes]:
    """One PNG, JPEG or WebP file per image of uint8 [N, H, W, C], C 1 or 3; `quality` 1 to 100 where it is taken."""
    options = {"quality": quality} if encoding.takes_quality else {}
    files = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, encoding.value, **options)
        files.append(buffer.getvalue())
    return files
