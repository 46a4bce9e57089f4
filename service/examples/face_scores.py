"""Scores of drawn faces, such as those of `progan dataset demo`, to fit directions to.

    progan directions fit --store models --model faces --scorer face_scores:scores

Run it where this file lies. A small network learns first, from 8000 faces that are drawn with known attributes; this
takes a minute.
"""

from functools import cache
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from progan_service.data.making.faces import FaceAttributes, draw_face

DRAWN = 6000
EPOCHS = 16
SIDE = 32  # pixels of the faces that are looked at
NOISE = 0.2  # standard deviation, of pixels from -1 to 1: generated faces are less clean than drawn ones
GROUPS = 20  # of faces with nearly the same estimate
Values = NDArray[np.float64]


class Detectors(NamedTuple):
    """Tell attributes from pixels: what drawn faces have on average whose estimate is the same.

    So a score stands still where its attribute does. Estimates do not: those of faces without glasses differ with
    their hair and skin.
    """

    network: keras.Model  # from pixels [N, SIDE, SIDE, 3] to estimates [N, attributes]
    estimates: Values  # [groups, attributes], rising
    averages: Values  # [groups, attributes], rising

    def of(self, pixels: Values) -> Values:
        estimates = np.asarray(self.network(pixels, training=False), np.float64)
        columns = zip(estimates.T, self.estimates.T, self.averages.T, strict=True)
        return np.stack([np.interp(estimate, *curve) for estimate, *curve in columns], axis=1)


def scores(images: NDArray[np.uint8]) -> dict[str, Values]:
    """Return scores [N] of images [N, R, R, 3] by name, R at least 32: as `attributes` has them, but estimated."""
    found = detectors().of(_pixels(images))
    return dict(zip(attributes(FaceAttributes.random(np.random.default_rng(0))), found.T, strict=True))


def attributes(face: FaceAttributes) -> dict[str, float]:
    """Return what is scored, of a face that is known.

    Blond, grey and pink hair are alike: none is dark. Hair is seen between the ears' lower ends and the shirt.
    """
    return {
        "glasses": 0.4 + 0.6 * face.tint if face.glasses else 0.0,
        "smile": face.cheer,
        "long-hair": min(max(face.hair_ends, 0.3), 1.2),
        "dark-hair": 0.5 if face.hair_style == "bald" else max(0.5, 1 - _brightness(face.hair)),
        "dark-skin": 1 - _brightness(face.skin_colour),
        "tilt": face.tilt_degrees / 7,
    }


@cache
def detectors() -> Detectors:
    """Learn from drawn faces what tells their attributes, and from others how good the estimates are."""
    rng = np.random.default_rng(0)
    network = _learnt(*_drawn_faces(DRAWN, rng))
    pixels, known = _drawn_faces(DRAWN // 3, rng)
    pixels += rng.normal(0, NOISE, pixels.shape)
    estimates, averages = [], []
    for estimate, truth in zip(np.asarray(network(pixels)).T, known.T, strict=True):
        groups = np.array_split(np.argsort(estimate), GROUPS)
        estimates.append([estimate[group].mean() for group in groups])
        averages.append(np.maximum.accumulate([truth[group].mean() for group in groups]))
    return Detectors(network, np.array(estimates).T, np.array(averages).T)


def _drawn_faces(count: int, rng: np.random.Generator) -> tuple[Values, Values]:
    """Return pixels [N, SIDE, SIDE, 3] and attributes [N, attributes] of random faces."""
    faces = [FaceAttributes.random(rng) for _ in range(count)]
    pixels = _pixels(np.stack([np.asarray(draw_face(face, SIDE)) for face in faces]))
    return pixels, np.array([list(attributes(face).values()) for face in faces])


def _learnt(pixels: Values, known: Values) -> keras.Model:
    """Return a network that estimates attributes, in standard deviations. The same faces give the same network."""
    weights = keras.initializers.HeNormal
    network = keras.Sequential([keras.Input(pixels.shape[1:]), keras.layers.GaussianNoise(NOISE, seed=0)])
    for seed, channels in enumerate((24, 48, 96)):
        network.add(keras.layers.Conv2D(channels, 3, 1, "same", activation="relu", kernel_initializer=weights(seed)))
        network.add(keras.layers.AveragePooling2D(2))
    network.add(keras.layers.Flatten())
    network.add(keras.layers.Dense(128, "relu", kernel_initializer=weights(3)))
    network.add(keras.layers.Dense(known.shape[1], kernel_initializer=weights(4)))
    batch = 50
    rate = keras.optimizers.schedules.CosineDecay(0.002, EPOCHS * len(pixels) // batch)
    network.compile(keras.optimizers.Adam(rate), "mse")
    targets = (known - known.mean(axis=0)) / known.std(axis=0)
    network.fit(pixels, targets, batch, EPOCHS, verbose=0, shuffle=False)
    return network


def _pixels(images: NDArray[np.uint8]) -> Values:
    """Return images as pixels -1..1, reduced to SIDE."""
    count, resolution, _, channels = images.shape
    each = resolution // SIDE
    squares = images.reshape(count, SIDE, each, SIDE, each, channels)
    return np.asarray(squares.mean(axis=(2, 4)) / 127.5 - 1)


def _brightness(colour: tuple[int, int, int]) -> float:
    return sum(colour) / 765
