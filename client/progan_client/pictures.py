"""Pictures of callers, as the service takes them: files of a bounded size."""

import io
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from progan_client.arguments import Fit
from progan_client.errors import ArgumentError
from progan_client.images import Pixels, to_image

Picture = str | Path | bytes | Image.Image | Pixels

MAX_PICTURES = 8  # of one call
_MAX_FILE_BYTES = 480 * 2**10  # eight fit into the service's limit of a request, 4 MiB
_MAX_SIDE = 4096  # pixels, of the service
_KINDS = ("PNG", "JPEG", "WEBP")  # of the service, so that the size of a file does not decide
_SIDES = (1024, 768, 512, 256)  # pixels, of a larger file that is written anew
_QUALITY = 95
_OPENING = threading.Lock()  # the filters of warnings belong to all threads
_RULE = "must be a path, the bytes of a file, a PIL image of whole numbers, or uint8 [H, W, 3]"


def picture_files(pictures: Picture | Iterable[Picture]) -> list[bytes]:
    """Return one to eight pictures as files.

    Files of up to 480 KiB and 4096 pixels a side, given by their path or their bytes, are sent as they are. Larger ones
    are made smaller: 1024 pixels a side at most, as JPEG. A PIL image, or uint8 [H, W] or [H, W, 3], becomes a PNG.
    Raise ArgumentError for what is no picture, OSError for a file that cannot be read.
    """
    one = isinstance(pictures, str | Path | bytes | Image.Image | np.ndarray)
    if not one and (isinstance(pictures, bytearray | memoryview | io.IOBase) or not isinstance(pictures, Iterable)):
        raise ArgumentError("pictures", _RULE, type(pictures).__name__)
    given: list[Picture] = [pictures] if one else list(pictures)  # type: ignore[list-item, arg-type]
    if not 1 <= len(given) <= MAX_PICTURES:
        raise ArgumentError("pictures", f"must be 1 to {MAX_PICTURES}", len(given))
    return [_file(f"pictures[{place}]", picture) for place, picture in enumerate(given)]


def shown_square(picture: Path, fit: Fit, side: int, channels: int) -> Pixels:
    """Return a file as the service compares it with images, up to rounding: uint8 [side, side, channels].

    Raise OSError if it cannot be read.
    """
    with _opened(picture) as image:
        shown, size = _shown(ImageOps.exif_transpose(image)), (side, side)
    if fit == "pad":
        square = ImageOps.pad(shown, size, Image.Resampling.LANCZOS, color="white")
    elif fit == "crop":
        square = ImageOps.fit(shown, size, Image.Resampling.LANCZOS)
    else:
        square = shown.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(square.convert("RGB" if channels == 3 else "L")).reshape(side, side, channels)


def _file(argument: str, picture: Picture) -> bytes:
    match picture:
        case str() | Path():
            return _small(argument, Path(picture).read_bytes())
        case bytes():
            return _small(argument, picture)
        case Image.Image() if picture.mode != "F" and 0 not in picture.size:  # the range of floats is unknown
            return _small(argument, _png(picture))
        case np.ndarray() if _is_image(picture):
            return _small(argument, _png(to_image(picture if picture.ndim == 3 else picture[..., None])))
        case np.ndarray():
            raise ArgumentError(argument, _RULE, f"{picture.dtype} {list(picture.shape)}")
        case Image.Image():
            raise ArgumentError(argument, _RULE, f"mode {picture.mode}, {picture.width}x{picture.height} pixels")
    raise ArgumentError(argument, _RULE, type(picture).__name__)


def _is_image(array: NDArray[np.generic]) -> bool:
    is_grey_or_rgb = array.ndim == 2 or array.shape[2:] in ((1,), (3,))
    return array.dtype == np.uint8 and array.size > 0 and is_grey_or_rgb


def _png(image: Image.Image) -> bytes:
    upright = ImageOps.exif_transpose(image)  # what Pillow has opened is turned as the camera was
    return _written(upright if upright.mode in ("L", "RGB", "RGBA") else _shown(upright), "PNG")


def _small(argument: str, content: bytes) -> bytes:
    """Return a file that the service takes: the same, or a smaller picture."""
    try:
        with _opened(io.BytesIO(content), _KINDS) as image:
            if len(content) <= _MAX_FILE_BYTES and max(image.size) <= _MAX_SIDE:
                return content
            shown = _shown(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow has no class for broken files
        if len(content) <= _MAX_FILE_BYTES and not isinstance(error, Image.DecompressionBombError):
            return content  # the service says what it is
        raise ArgumentError(argument, _rule_of(error), f"{len(content)} bytes") from error
    for side in _SIDES:
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
        small = _written(shown, "JPEG", quality=_QUALITY)
        if len(small) <= _MAX_FILE_BYTES:
            break
    return small


def _opened(source: Path | io.BytesIO, kinds: tuple[str, ...] | None = None) -> Image.Image:
    """Open a picture. Pillow refuses some twice the pixels of which it warns; a photograph may lie between."""
    with _OPENING, warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        return Image.open(source, formats=kinds)


def _rule_of(error: Exception) -> str:
    match error:
        case Image.DecompressionBombError():
            return f"must have at most {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels"
        case UnidentifiedImageError():
            return "must be a PNG, JPEG or WebP picture"
    return "must be an undamaged PNG, JPEG or WebP picture"


def _shown(image: Image.Image) -> Image.Image:
    """Return a picture as a viewer shows it on white: RGB, in the colours of sRGB, without a profile."""
    opaque = _opaque(_8_bits(image))
    converted = _in_srgb(opaque, image.info.get("icc_profile")) or opaque.convert("RGB")
    converted.info.pop("icc_profile", None)
    return converted


def _8_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(np.rint(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow has one way out of it
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image if image.mode in ("L", "CMYK", "LAB") else image.convert("RGB")
    with_alpha = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha).convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Return the picture in the colours of sRGB; None where its profile is missing, damaged, or for other channels."""
    if not profile:
        return None
    try:
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _written(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
