"""Scores of drawn faces, such as those of `progan dataset demo`, to fit directions to.

    progan directions fit --store models --model faces --scorer face_scores:scores

Run it where this file lies. The detectors are learned first, from 6000 faces that are drawn with known attributes; this
takes half a minute.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from progan_service.data.making.faces import FaceAttributes, draw_face

DRAWN = 6000
SIDE = 32  # pixels of the faces that are compared
RIDGE = 0.01
Values = NDArray[np.float64]


class Detectors(NamedTuple):
    """Kernel ridge regression: a face is scored by how much it is like each drawn face.

    The likeness is (1 + x y / s)^2 of centred pixels x and y, s being the mean square of a drawn face. Products of two
    pixels tell what single ones cannot, such as a dark frame on a light skin and one on a dark skin. That matters:
    the noise of a detector is as harmful as a direction that is wrong.
    """

    drawn: Values  # [faces, pixels], centred
    middle: Values  # [pixels]
    scale: float  # s
    weights: Values  # [faces, attributes]
    offsets: Values  # [attributes]

    def of(self, pixels: Values) -> Values:
        return _likeness(pixels - self.middle, self.drawn, self.scale) @ self.weights + self.offsets


def scores(images: NDArray[np.uint8]) -> dict[str, Values]:
    """Return scores [N] of images [N, R, R, 3] by name, R at least 32: as `attributes` has them, but estimated."""
    found = detectors().of(_rows(images))
    return dict(zip(attributes(FaceAttributes.random(np.random.default_rng(0))), found.T, strict=True))


def attributes(face: FaceAttributes) -> dict[str, float]:
    """Return what is scored, of a face that is known."""
    return {
        "glasses": 0.4 + 0.6 * face.tint if face.glasses else 0.0,
        "smile": 0.2 + face.smile_height if face.smile else face.mouth_curve,
        "long-hair": face.hair_ends,
        "dark-hair": 0.5 if face.hair_style == "bald" else 1 - _brightness(face.hair),
        "dark-skin": 1 - _brightness(face.skin_colour),
        "tilt": face.tilt_degrees / 7,
    }


@cache
def detectors() -> Detectors:
    """Learn from drawn faces what tells their attributes."""
    rng = np.random.default_rng(0)
    faces = [FaceAttributes.random(rng) for _ in range(DRAWN)]
    pixels = _rows(np.stack([np.asarray(draw_face(face, SIDE)) for face in faces]))
    known = np.array([list(attributes(face).values()) for face in faces])
    middle, offsets = pixels.mean(axis=0), known.mean(axis=0)
    drawn = pixels - middle
    scale = float((drawn**2).sum(axis=1).mean())
    likeness = _likeness(drawn, drawn, scale)
    likeness[np.diag_indices(DRAWN)] += RIDGE
    return Detectors(drawn, middle, scale, np.linalg.solve(likeness, known - offsets), offsets)


def _likeness(faces: Values, others: Values, scale: float) -> Values:
    return np.asarray((1 + faces @ others.T / scale) ** 2)


def _rows(images: NDArray[np.uint8]) -> Values:
    """Return images as rows of pixels -1..1, reduced to SIDE."""
    count, resolution, _, channels = images.shape
    each = resolution // SIDE
    squares = images.reshape(count, SIDE, each, SIDE, each, channels)
    return np.asarray(squares.mean(axis=(2, 4)) / 127.5 - 1).reshape(count, -1)


def _brightness(colour: tuple[int, int, int]) -> float:
    return sum(colour) / 765
