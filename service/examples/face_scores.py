"""Scores of drawn faces, such as those of `progan dataset demo`, to fit directions to.

    progan directions fit --store models --model faces --scorer face_scores:scores

Run it where this file lies. The detectors are learned first, from 8000 faces that are drawn with known attributes; this
takes half a minute.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from progan_service.data.making.faces import FaceAttributes, draw_face

DRAWN = 6000
SIDE = 32  # pixels of the faces that are compared
NOISE = 0.2  # standard deviation, of pixels from -1 to 1: generated faces are less clean than drawn ones
RIDGE = 0.1
GROUPS = 20  # of faces with nearly the same estimate
Values = NDArray[np.float64]


class Estimator(NamedTuple):
    """Kernel ridge regression: attributes are estimated by how much a face is like each drawn face.

    The likeness is (1 + x y / s)^2 of centred pixels x and y, s being the mean square of a drawn face. Products of two
    pixels tell what single ones cannot, such as a dark frame on a light skin and one on a dark skin.
    """

    drawn: Values  # [faces, pixels], centred
    middle: Values  # [pixels]
    scale: float  # s
    weights: Values  # [faces, attributes]
    offsets: Values  # [attributes]

    def of(self, pixels: Values) -> Values:
        return _likeness(pixels - self.middle, self.drawn, self.scale) @ self.weights + self.offsets


class Detectors(NamedTuple):
    """Tell attributes from pixels: what drawn faces have on average whose estimate is the same.

    So a score stands still where its attribute does. Estimates do not: those of faces without glasses differ with
    their hair and skin.
    """

    estimator: Estimator
    estimates: Values  # [groups, attributes], rising
    averages: Values  # [groups, attributes], rising

    def of(self, pixels: Values) -> Values:
        columns = zip(self.estimator.of(pixels).T, self.estimates.T, self.averages.T, strict=True)
        return np.stack([np.interp(estimate, *curve) for estimate, *curve in columns], axis=1)


def scores(images: NDArray[np.uint8]) -> dict[str, Values]:
    """Return scores [N] of images [N, R, R, 3] by name, R at least 32: as `attributes` has them, but estimated."""
    found = detectors().of(_rows(images))
    return dict(zip(attributes(FaceAttributes.random(np.random.default_rng(0))), found.T, strict=True))


def attributes(face: FaceAttributes) -> dict[str, float]:
    """Return what is scored, of a face that is known.

    Blond, grey and pink hair are alike: none is dark. Hair is seen between the ears' lower ends and the shirt.
    """
    return {
        "glasses": 0.4 + 0.6 * face.tint if face.glasses else 0.0,
        "smile": 0.2 + face.smile_height if face.smile else face.mouth_curve,
        "long-hair": min(max(face.hair_ends, 0.3), 1.2),
        "dark-hair": 0.5 if face.hair_style == "bald" else max(0.5, 1 - _brightness(face.hair)),
        "dark-skin": 1 - _brightness(face.skin_colour),
        "tilt": face.tilt_degrees / 7,
    }


@cache
def detectors() -> Detectors:
    """Learn from drawn faces what tells their attributes, and from others how good the estimates are."""
    rng = np.random.default_rng(0)
    estimator = _estimator(*_drawn_faces(DRAWN, rng))
    pixels, known = _drawn_faces(DRAWN // 3, rng)
    estimates, averages = [], []
    for estimate, truth in zip(estimator.of(pixels).T, known.T, strict=True):
        groups = np.array_split(np.argsort(estimate), GROUPS)
        estimates.append([estimate[group].mean() for group in groups])
        averages.append(np.maximum.accumulate([truth[group].mean() for group in groups]))
    return Detectors(estimator, np.array(estimates).T, np.array(averages).T)


def _drawn_faces(count: int, rng: np.random.Generator) -> tuple[Values, Values]:
    """Return noisy pixels [N, pixels] and attributes [N, attributes] of random faces."""
    faces = [FaceAttributes.random(rng) for _ in range(count)]
    pixels = _rows(np.stack([np.asarray(draw_face(face, SIDE)) for face in faces]))
    known = np.array([list(attributes(face).values()) for face in faces])
    return pixels + rng.normal(0, NOISE, pixels.shape), known


def _estimator(pixels: Values, known: Values) -> Estimator:
    middle, offsets = pixels.mean(axis=0), known.mean(axis=0)
    drawn = pixels - middle
    scale = float((drawn**2).sum(axis=1).mean())
    likeness = _likeness(drawn, drawn, scale)
    likeness[np.diag_indices(len(drawn))] += RIDGE
    return Estimator(drawn, middle, scale, np.linalg.solve(likeness, known - offsets), offsets)


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
