"""Converts the colours of a picture to sRGB, by the ICC profile that is embedded or by what stands in its place."""

import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

from progan_service.decoding.errors import PictureError

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "LAB"}  # the ICC's names of Pillow's modes
_DEVICE_CLASSES = ("scnr", "mntr", "prtr", "spac")
_KEPT_PROFILES = 8  # of up to megabytes each, and a server gets them from callers
_COARSE = 2  # levels


class _Transform(NamedTuple):
    """A way from the colours of one profile to sRGB.

    mode        the mode of pictures that LittleCMS takes: "L", "RGB", "CMYK" or "LAB"
    cms         the transform, or None where it would change nothing
    is_coarse   whether neighbours among 256 levels of grey are more than two levels of sRGB apart
    """

    mode: str
    cms: ImageCms.ImageCmsTransform | None
    is_coarse: bool


def to_srgb(image: Image.Image, profile: bytes | None, is_deep: bool = False) -> Image.Image:
    """Convert a picture to RGB in sRGB, or to RGBA if it has an alpha channel, which stays as it is.

    A profile that is damaged or for other channels is ignored, as browsers do: RGB and grey then count as sRGB, CMYK as
    ideal inks.

    Args:
        image: of mode L, LA, RGB, RGBA, CMYK or LAB.
        profile: an ICC profile.
        is_deep: whether the pixels were rounded to 8 bits from more.

    Raises:
        PictureError: the pixels are deep, and those of this profile cannot be rounded to 8 bits: they are linear.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode.removesuffix("A")) if alpha else image
    transform = _transform(profile, colours.mode)
    if transform and is_deep and transform.is_coarse:
        raise PictureError("linear pixels of more than 8 bits, which would be rounded too coarsely: save it as sRGB")
    if transform and transform.cms:
        colours = colours.convert(transform.mode)
        converted = ImageCms.applyTransform(colours, transform.cms)
        assert converted is not None
    else:
        converted = colours.convert("RGB")
    if alpha:
        converted.putalpha(alpha)
    return converted


@lru_cache(_KEPT_PROFILES)
def _transform(profile: bytes | None, mode: str) -> _Transform | None:
    """Return the way from a profile to sRGB, or None if the profile is missing, damaged or for other channels."""
    try:
        if mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return None
        space = source.profile.xcolor_space.strip()
        if mode == "L" and space == "RGB":
            mode = "RGB"
        if _SPACES.get(mode) != space.upper() or source.profile.device_class not in _DEVICE_CLASSES:
            return None
        cms = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode not in ("L", "RGB"):
        return _Transform(mode, cms, is_coarse=False)
    samples = _samples(mode)
    shown = ImageCms.applyTransform(samples, cms)
    assert shown is not None
    pixels, srgb = (np.asarray(image.convert("RGB")).astype(np.int16) for image in (samples, shown))
    is_coarse = int(np.abs(np.diff(srgb[0, :, 1])).max()) > _COARSE
    return _Transform(mode, None if np.abs(srgb - pixels).max() <= 1 else cms, is_coarse)


def _samples(mode: str) -> Image.Image:
    """Return all greys [1, 256], and below them, for RGB, colours all over the cube."""
    greys = np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 1, 3)).reshape(1, 256, 3)
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(16, 256, 3)
    return Image.fromarray(greys[..., 0]) if mode == "L" else Image.fromarray(np.concatenate([greys, cube]))
