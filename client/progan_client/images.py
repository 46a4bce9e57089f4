"""Images in memory and on disk."""

import io
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from progan_client.checks import checked_integer
from progan_client.errors import ArgumentError, ReplyError
from progan_client.models import ServedModel

Encoding = Literal["raw", "png", "jpeg", "webp"]
Pixels = NDArray[np.uint8]
Latents = NDArray[np.float32]

ENCODING_OF_SUFFIX: dict[str, Encoding] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
DEFAULT_QUALITY = 90  # as in the service
_SHOWN = 64  # images in a notebook
_MAX_SIDES = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500, ".gif": 65_535, ".mp4": 16_384}  # pixels
MAX_PICTURE_PIXELS = 2**27  # 400 MB of RGB; a larger picture is a typing error


@dataclass(frozen=True)
class StageTimes:
    """The server's times of a reply, in seconds.

    `queue_s`      the longest queue time of an image.
    `inference_s`  the sum over the batches of the images.
    `encode_s`     the time to encode the images.
    """

    queue_s: float
    inference_s: float
    encode_s: float


@dataclass(frozen=True, eq=False, repr=False)
class GeneratedImages:
    """Images of one size in the order of the request, with the latents and the model that made them.

    `len(images)` is N. `images[i]` is a PIL image and `images[i:j]` a GeneratedImages. Iteration yields PIL images.

    `shape`     (N, H, W, C); C is 1 (grey) or 3 (RGB).
    `encoding`  the format on the wire.
    `files`     the N files that the service sent (PNG, JPEG or WebP); empty for "raw".
    `raw`       uint8 [N, H, W, C] for "raw", else None. `pixels` works for every encoding.
    `latents`   float32 [N, L]; `generate(latents=images.latents)` returns the same images.
    `seeds`     the N seeds, before any edits; None if the request had latents.
    `model`     name, version and digest of the model.
    `times`     the server's times of the whole reply, in slices too.
    """

    shape: tuple[int, int, int, int]
    encoding: Encoding
    files: tuple[bytes, ...]
    raw: Pixels | None
    latents: Latents
    seeds: tuple[int, ...] | None
    model: ServedModel
    times: StageTimes

    def __repr__(self) -> str:
        count, height, width, channels = self.shape
        return (
            f"<GeneratedImages: {count} of {height}x{width}x{channels}, {self.model.name} version {self.model.version}>"
        )

    def _repr_png_(self) -> bytes | None:
        """Show the images as one picture, at most the first 64, where a notebook asks for it; no picture of none."""
        return encoded(self[:_SHOWN].grid(), ".png") if len(self) else None

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Image.Image]:
        return (to_image(pixels) for pixels in self.pixels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> "GeneratedImages": ...
    def __getitem__(self, index: int | slice) -> "Image.Image | GeneratedImages":
        if not isinstance(index, slice):
            return to_image(self.pixels[_place(index)])
        return replace(
            self,
            shape=(len(range(*index.indices(len(self)))), *self.shape[1:]),
            files=self.files[index],
            raw=None if self.raw is None else self.raw[index],
            latents=self.latents[index],
            seeds=None if self.seeds is None else self.seeds[index],
        )

    @cached_property
    def pixels(self) -> Pixels:
        """uint8 [N, H, W, C], decoded at the first use. Raise ReplyError if a file is not an image of this size."""
        if self.raw is not None:
            return self.raw
        pixels = np.empty(self.shape, np.uint8)
        for index, file in enumerate(self.files):
            pixels[index] = _decoded(file, self.encoding, self.shape[1:])
        return pixels

    def grid(self, columns: int | None = None, *, scale: int = 1) -> Image.Image:
        """Return one picture of all images, row by row, without gaps; see `image_grid`."""
        return image_grid(self.pixels, columns, scale)

    def save(self, path: Path | str, *, quality: int = DEFAULT_QUALITY) -> tuple[Path, ...]:
        """Write each image to a file and return the paths of the files.

        One image is written to `path`, several to `stem-0000.suffix`, `stem-0001.suffix`, ... in the same directory.
        The suffix (.png, .jpg, .jpeg, .webp) selects the format. If the service sent this format, its bytes are written
        unchanged. `quality` is 1 to 100, for JPEG and WebP. Raise ArgumentError for another suffix or quality,
        FileNotFoundError if the directory does not exist, another OSError if a file cannot be written.
        """
        encoding_of(Path(path).suffix)
        require_directory(path)
        paths = [Path(path)] if len(self) == 1 else [numbered(path, index) for index in range(len(self))]
        for index, each in enumerate(paths):
            each.write_bytes(self.file(index, each.suffix, quality=quality))
        return tuple(paths)

    def file(self, index: int, suffix: str, *, quality: int = DEFAULT_QUALITY) -> bytes:
        """Return one image as the bytes of a file; `suffix` and `quality` as in `save`."""
        if self.files and encoding_of(suffix) == self.encoding:
            return self.files[index]
        return encoded(self[index], suffix, quality)


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a walk through latent space.

    `index`   position in the walk, from 0.
    `images`  GeneratedImages with this one image: its file, model and times.
    """

    index: int
    images: GeneratedImages

    def _repr_png_(self) -> bytes:
        """Show the frame where a notebook asks for it."""
        return encoded(self.image, ".png")

    @property
    def pixels(self) -> Pixels:
        """uint8 [H, W, C]."""
        pixels: Pixels = self.images.pixels[0]
        return pixels

    @property
    def latent(self) -> Latents:
        """float32 [L]."""
        latent: Latents = self.images.latents[0]
        return latent

    @property
    def image(self) -> Image.Image:
        """The frame as a PIL image."""
        return self.images[0]

    def save(self, path: Path | str, *, quality: int = DEFAULT_QUALITY) -> Path:
        """Write the frame to `path` and return it; suffix, quality and errors as in `GeneratedImages.save`."""
        return self.images.save(path, quality=quality)[0]


def _place(index: object) -> int:
    """Return the index of one image. Raise TypeError for what selects several in NumPy, or none."""
    if isinstance(index, bool) or not hasattr(index, "__index__") or isinstance(index, np.ndarray):
        rule = "an integer or a slice; `pixels` and `latents` are arrays, and take what NumPy takes"
        raise TypeError(f"the index of images must be {rule}; got {index!r}")
    return operator.index(index)


def to_image(pixels: Pixels) -> Image.Image:
    """Return uint8 [H, W, C] as a PIL image, grey (L) or RGB."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def enlarged(pixels: Pixels, scale: int) -> Pixels:
    """Repeat each pixel as a square: uint8 [..., H, W, C] -> [..., H * scale, W * scale, C]."""
    scale = checked_integer("scale", scale, 1)
    return pixels if scale == 1 else pixels.repeat(scale, axis=-3).repeat(scale, axis=-2)


def image_grid(pixels: Pixels, columns: int | None = None, scale: int = 1) -> Image.Image:
    """Return one picture of uint8 [N, H, W, C], row by row, without gaps; unused cells of the last row are white.

    By default `columns` is the smallest number that makes the grid at least as wide as high. Raise ArgumentError for
    no images, for columns or a scale below 1, and for a picture of more than MAX_PICTURE_PIXELS.
    """
    count, height, width, channels = pixels.shape
    if count < 1:
        raise ArgumentError("images", "must be at least one", count)
    columns = math.isqrt(count - 1) + 1 if columns is None else checked_integer("columns", columns, 1)
    scale = checked_integer("scale", scale, 1)
    rows = -(-count // columns)
    size = (columns * width * scale, rows * height * scale)
    if math.prod(size) > MAX_PICTURE_PIXELS:
        raise ArgumentError("scale, columns", f"must give at most {MAX_PICTURE_PIXELS} pixels", f"{size[0]}x{size[1]}")
    cells = np.full((rows * columns, height, width, channels), 255, np.uint8)
    cells[:count] = pixels
    picture = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    return to_image(enlarged(picture.reshape(rows * height, columns * width, channels), scale))


def numbered(path: Path | str, index: int) -> Path:
    """Add a number to a path: ("out/image.png", 7) -> out/image-0007.png."""
    path = Path(path)
    return path.with_name(f"{path.stem}-{index:04d}{path.suffix}")


def require_directory(path: Path | str) -> None:
    """Raise FileNotFoundError unless the directory of a file exists."""
    directory = Path(path).parent
    if not directory.exists():
        raise FileNotFoundError(f"{directory}: there is no such directory for {Path(path).name}; make it first")


def encoding_of(suffix: str) -> Encoding:
    """Return the encoding of a suffix: ".jpg" -> "jpeg". Raise ArgumentError for an unknown suffix."""
    try:
        return ENCODING_OF_SUFFIX[suffix.lower()]
    except KeyError:
        raise ArgumentError("suffix", f"must be one of {', '.join(ENCODING_OF_SUFFIX)}", suffix) from None


def check_sides(suffix: str, size: tuple[int, int]) -> None:
    """Raise ArgumentError for a width or height that the format of a suffix cannot have."""
    most = _MAX_SIDES.get(suffix.lower(), math.inf)
    if max(size) > most:
        rule = f"must not be {suffix}, which has at most {most} pixels a side"
        raise ArgumentError("suffix", rule, f"{size[0]}x{size[1]}")


def encoded(image: Image.Image, suffix: str, quality: int = DEFAULT_QUALITY) -> bytes:
    """Return an image as the bytes of a file. The same pixels give the same bytes: no times or names are added."""
    encoding = encoding_of(suffix)
    check_sides(suffix, image.size)
    quality = checked_integer("quality", quality, 1, 100)
    file = io.BytesIO()
    image.save(file, encoding, **({} if encoding == "png" else {"quality": quality}))
    return file.getvalue()


def _decoded(file: bytes, encoding: Encoding, shape: tuple[int, ...]) -> Pixels:
    """Decode a file of the service to uint8 [H, W, C]. Its size is checked before its pixels are decoded."""
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(file), formats=[encoding]) as image:
            if image.size == (width, height):
                return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(shape)  # WebP has no grey
            sent = image.size[::-1]
    except Exception as error:  # Pillow has no class for broken files: SyntaxError, ValueError, struct.error, ...
        raise ReplyError(f"the service sent a file that is not an image: {error}") from error
    raise ReplyError(f"the service announced images of {(height, width)} pixels and sent one of {sent}")
