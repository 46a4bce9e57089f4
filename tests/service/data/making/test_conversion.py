"""What is done to each picture of a dataset."""

import io

import pytest
from PIL import Image

from progan_service.data.making.conversion import Conversion
from progan_service.decoding.errors import PictureError


def test_a_small_picture_is_told_which_side_is_too_short() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stream, "PNG")
    picture = stream.getvalue()
    assert Conversion(32, "pad").check(picture) == b""
    with pytest.raises(PictureError, match="40x30 pixels: the shorter side must be at least 32"):
        Conversion(32, "crop").check(picture)
    with pytest.raises(PictureError, match="40x30 pixels: the longer side must be at least 64"):
        Conversion(64, "pad").check(picture)
