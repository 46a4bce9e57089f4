"""What is done to each picture of a dataset: a pure function of its bytes, which the workers call."""

from dataclasses import dataclass

from progan_service.data.making.picture import decode_rgb
from progan_service.data.making.records import level_records
from progan_service.data.making.square import Fit, check_size, to_square


@dataclass(frozen=True)
class Conversion:
    """How pictures of any size become images of a dataset."""

    resolution: int
    fit: Fit

    def check(self, content: bytes) -> bytes:
        """Return nothing for a picture that can be used. Raises PictureError for others."""
        check_size(decode_rgb(content, self.resolution), self.resolution, self.fit)
        return b""

    def records(self, content: bytes) -> bytes:
        """Return a TFRecord for each level of the picture, the largest one first. Raises PictureError."""
        return level_records(to_square(decode_rgb(content, self.resolution), self.resolution, self.fit))
