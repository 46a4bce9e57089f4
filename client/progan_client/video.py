"""MP4 (H.264), by PyAV: the extra `mp4`."""

from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from progan_client.errors import ArgumentError

_BT709, _SRGB, _LIMITED_RANGE = 1, 13, 1  # as H.264 numbers them
_CRF = "16"  # of 0 to 51: nearly without loss


def require_video() -> None:
    """Raise ArgumentError where PyAV is not installed."""
    if find_spec("av") is None:
        raise ArgumentError("suffix", "needs PyAV (pip install 'progan-client[mp4]'); .webp and .gif do not", ".mp4")


def save_video(pictures: Sequence[Image.Image], path: Path | str, fps: float) -> None:
    """Write pictures of one size. A width or height that is odd gets one more column or row, repeated."""
    import av
    from av.video.reformatter import Colorspace

    width, height = (side + side % 2 for side in pictures[0].size)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", Fraction(float(fps)).limit_denominator(1000), options={"crf": _CRF})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        coding = stream.codec_context
        coding.color_primaries = coding.colorspace = _BT709
        coding.color_trc, coding.color_range = _SRGB, _LIMITED_RANGE
        for picture in pictures:
            pixels = np.asarray(_of_size(picture.convert("RGB"), width, height))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode())


def _of_size(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return the picture, with its last column and row repeated up to this size."""
    if picture.size == (width, height):
        return picture
    larger = Image.new("RGB", (width, height))
    for place in (
        (width - picture.width, height - picture.height),
        (0, height - picture.height),
        (width - picture.width, 0),
        (0, 0),
    ):
        larger.paste(picture, place)
    return larger
