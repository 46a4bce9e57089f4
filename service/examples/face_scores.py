"""Scores of drawn faces, such as those of `progan dataset demo`, to fit directions to.

    progan directions fit --store models --model faces --scorer face_scores:scores

Run it where this file lies. The detectors are learned first, from 3000 faces that are drawn with known attributes; this
takes a quarter of a minute.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from progan_service.data.making.faces import FaceAttributes, draw_face

DRAWN = 3000
SIDE = 32  # pixels of the faces that are compared
RIDGE = 10.0
LONG_HAIR = ("bob", "long")
Values = NDArray[np.float64]


def scores(images: NDArray[np.uint8]) -> dict[str, Values]:
    """Return scores [N] of images [N, R, R, 3] by name, R at least 32: about 1 where it holds, and 0 where not."""
    weights, offsets = detectors()
    found = _rows(images) @ weights + offsets
    return dict(zip(attributes(FaceAttributes.random(np.random.default_rng(0))), found.T, strict=True))


def attributes(face: FaceAttributes) -> dict[str, float]:
    """Return what is scored, of a face that is known."""
    return {
        "glasses": 0.4 + 0.6 * face.tint if face.glasses else 0.0,
        "smile": 0.2 + face.smile_height if face.smile else face.mouth_curve,
        "long-hair": face.hair_ends,
        "dark-hair": 1 - _brightness(face.hair),
        "dark-skin": 1 - _brightness(face.skin_colour),
        "tilt": face.tilt_degrees / 7,
    }


@cache
def detectors() -> tuple[Values, Values]:
    """Return weights [pixels, attributes] and offsets [attributes], by ridge regression on drawn faces."""
    rng = np.random.default_rng(0)
    faces = [FaceAttributes.random(rng) for _ in range(DRAWN)]
    pixels = _rows(np.stack([np.asarray(draw_face(face, SIDE)) for face in faces]))
    known = np.array([list(attributes(face).values()) for face in faces])
    middle = pixels.mean(axis=0)
    centred = pixels - middle
    weights = centred.T @ np.linalg.solve(centred @ centred.T + RIDGE * np.eye(DRAWN), known - known.mean(axis=0))
    return weights, known.mean(axis=0) - middle @ weights


def _rows(images: NDArray[np.uint8]) -> Values:
    """Return images as rows of pixels -1..1, reduced to SIDE."""
    count, resolution, _, channels = images.shape
    each = resolution // SIDE
    squares = images.reshape(count, SIDE, each, SIDE, each, channels)
    return np.asarray(squares.mean(axis=(2, 4)) / 127.5 - 1).reshape(count, -1)


def _brightness(colour: tuple[int, int, int]) -> float:
    return sum(colour) / 765
