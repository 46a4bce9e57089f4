"""What is done to each picture of a dataset: a pure function of its bytes, which the workers call."""

from dataclasses import dataclass
from typing import Literal, get_args

from progan_service.data.errors import DatasetError
from progan_service.data.making.records import check_resolution, level_records
from progan_service.decoding.errors import PictureError
from progan_service.decoding.picture import decode_rgb
from progan_service.decoding.square import Background, to_square

Fit = Literal["crop", "pad"]
Small = Literal["refuse", "pad", "enlarge"]
Channels = Literal[3, 1]

_CHOICES = {"fit": Fit, "small": Small, "background": Background, "channels": Channels}


class TooSmallError(PictureError):
    """A picture would have to be scaled up. `size` is its width and height, `side` the one that counts."""

    def __init__(self, size: tuple[int, int], resolution: int, fit: Fit) -> None:
        name, self.side = ("shorter", min(size)) if fit == "crop" else ("longer", max(size))
        self.size = size
        super().__init__(f"{size[0]}x{size[1]} pixels: the {name} side must be at least {resolution}")


@dataclass(frozen=True)
class Conversion:
    """How pictures of any size become images of a dataset.

    resolution   height and width of the full images: a power of two from 4 to 1024
    fit          "crop" takes the centre square, "pad" keeps the whole picture and adds borders
    small        what becomes of pictures with fewer pixels: "refuse", "pad" (borders on all sides) or "enlarge"
    background   the colour of borders, and behind transparent pixels: "white" or "black"
    channels     3: RGB, 1: grey, the luma of Rec. 601

    Raises:
        DatasetError: a value is out of range.
    """

    resolution: int
    fit: Fit = "crop"
    small: Small = "refuse"
    background: Background = "white"
    channels: Channels = 3

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        for name, kind in _CHOICES.items():
            if (value := getattr(self, name)) not in get_args(kind):
                raise DatasetError(f"{name} is {value!r}: it must be one of {', '.join(map(str, get_args(kind)))}")

    def check(self, content: bytes) -> bytes:
        """Return nothing for a picture that can be used. Raises PictureError, TooSmallError for a small one."""
        image = decode_rgb(content, self.background, self.resolution)
        if self.small == "refuse" and (error := self.too_small(image.size)).side < self.resolution:
            raise error
        return b""

    def too_small(self, size: tuple[int, int]) -> TooSmallError:
        """Return the error of a picture of this width and height."""
        return TooSmallError(size, self.resolution, self.fit)

    def records(self, content: bytes) -> bytes:
        """Return a TFRecord for each level of the picture, the largest one first. Raises PictureError."""
        image = decode_rgb(content, self.background, self.resolution)
        if self.channels == 1:
            image = image.convert("L")
        enlarge = self.small != "pad"
        return level_records(to_square(image, self.resolution, self.fit, enlarge=enlarge, background=self.background))
