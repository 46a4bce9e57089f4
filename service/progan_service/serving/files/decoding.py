"""Pictures of callers become pixels, as those of datasets do. Pure. Sizes are checked before pixels are decoded."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from progan_service.decoding.errors import DamagedPictureError, PictureError
from progan_service.decoding.kinds import is_decoded, picture_kind, refusal
from progan_service.decoding.picture import decode_rgb
from progan_service.decoding.square import Fit, to_square
from progan_service.serving.errors import InvalidArgument

MAX_SIDE = 4096  # pixels

_KINDS = ("PNG", "JPEG", "WEBP")


def decoded(content: bytes, side: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return a PNG, JPEG or WebP file as uint8 [side, side, channels]: as it is shown, upright, in the colours of sRGB.

    What is transparent becomes white. Raise InvalidArgument about `picture`. The message holds nothing of the content.
    """
    kind = picture_kind(content)
    if kind not in _KINDS:
        raise InvalidArgument("picture", _refusal(kind, content))
    try:
        _check_size(kind, content)
        image = decode_rgb(content, enough=side)
    except DamagedPictureError as error:
        raise InvalidArgument("picture", f"is a damaged {kind}") from error
    except PictureError as error:
        raise InvalidArgument("picture", str(error)) from error
    return to_square(image if channels == 3 else image.convert("L"), side, fit)


def _refusal(kind: str | None, content: bytes) -> str:
    if kind and not is_decoded(kind):
        return refusal(content)
    return f"{f'is {kind}' if kind else refusal(content)}; must be a PNG, JPEG or WebP file"


def _check_size(kind: str, content: bytes) -> None:
    try:
        with Image.open(io.BytesIO(content), formats=[kind]) as image:
            width, height = image.size
    except Exception as error:  # a damaged file leads Pillow to errors of many kinds
        raise DamagedPictureError("its header cannot be read") from error
    if max(width, height) > MAX_SIDE:
        raise InvalidArgument("picture", f"has {width} x {height} pixels; must have at most {MAX_SIDE} x {MAX_SIDE}")
