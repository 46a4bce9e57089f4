"""Draws friendly faces with known attributes: data for tests and first trainings.

A face is drawn in face units: (0, 0) is the middle of the face, y points down, and the chin is at y = 1. It is drawn at
four times its size and scaled down, so edges are smooth.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

SKINS: dict[str, Colour] = {
    "porcelain": (253, 224, 204),
    "peach": (246, 199, 160),
    "tan": (217, 160, 112),
    "brown": (162, 106, 68),
    "deep": (104, 66, 45),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (40, 34, 40),
    "brown": (96, 58, 34),
    "auburn": (160, 68, 34),
    "blond": (236, 192, 92),
    "grey": (176, 178, 186),
    "pink": (236, 118, 160),
}
EYE_COLOURS: dict[str, Colour] = {"brown": (82, 48, 28), "blue": (52, 108, 178), "green": (58, 128, 82)}
BACKGROUNDS: dict[str, Colour] = {
    "sky": (158, 208, 240),
    "mint": (166, 224, 196),
    "lemon": (252, 230, 150),
    "coral": (250, 176, 156),
    "lilac": (204, 190, 240),
}
SHIRTS: dict[str, Colour] = {
    "navy": (52, 72, 122),
    "red": (208, 72, 72),
    "green": (62, 142, 102),
    "white": (244, 244, 240),
    "violet": (128, 88, 168),
}
HAIR_STYLES = ("short", "bob", "long", "curly", "bun", "bald")
NOSES = ("button", "long")

ATTRIBUTE_VALUES: dict[str, tuple[str, ...]] = {
    "glasses": ("no glasses", "glasses"),
    "smile": ("no smile", "smile"),
    "skin": tuple(SKINS),
    "hair_style": HAIR_STYLES,
    "hair_colour": tuple(HAIR_COLOURS),
    "eyes": tuple(EYE_COLOURS),
    "nose": NOSES,
    "background": tuple(BACKGROUNDS),
    "shirt": tuple(SHIRTS),
}
"""The names of the values of each attribute that can be a label. A boolean indexes its two names."""

WIDEST_SMILE = 0.4  # height of the mouth, in face units

_SUPERSAMPLING = 4
_MARGIN = 1.25  # width of the canvas / width of the picture, so that a tilted picture has no empty corners
_HAIR_ENDS = {"short": 0.25, "bob": 0.8, "long": 1.35}  # y of the ends of the hair
_WHITE = (255, 255, 255)
_INK = (44, 34, 40)


@dataclass(frozen=True)
class FaceAttributes:
    """All attributes of a face. `draw_face` adds no randomness."""

    glasses: bool
    smile: bool
    skin: str  # a key of SKINS
    hair_style: str  # one of HAIR_STYLES
    hair_colour: str  # a key of HAIR_COLOURS; also of the eyebrows
    eyes: str  # a key of EYE_COLOURS
    nose: str  # one of NOSES
    background: str  # a key of BACKGROUNDS
    shirt: str  # a key of SHIRTS
    x: float = 0.0  # shift to the right, in image widths
    y: float = 0.0  # shift downwards, in image widths
    scale: float = 1.0
    tilt_degrees: float = 0.0  # to the left
    face_width: float = 0.85  # half-width; the half-height is 1
    eye_distance: float = 0.36  # of each eye from the middle
    eye_size: float = 1.0
    brow_height: float = 0.0  # raised above the usual, in face units
    mouth_width: float = 0.36  # half-width, in face units
    skin_shade: float = 0.0  # of the way to the next darker of SKINS, or to the next lighter one if negative
    hair_shade: float = 0.0  # share of ink in the colour of the hair, or of white if negative
    hair_length: float = 1.0  # of short hair, a bob or long hair, times the usual
    smile_height: float = 0.3  # of the open mouth, in face units, up to WIDEST_SMILE
    mouth_curve: float = 0.02  # of a closed mouth: how far its middle hangs below its corners, in face units
    frame_width: float = 0.09  # of the glasses, in face units
    tint: float = 0.0  # of the lenses: 1 is black

    @property
    def skin_colour(self) -> Colour:
        tones = list(SKINS)
        index = tones.index(self.skin)
        neighbour = min(max(index + (1 if self.skin_shade > 0 else -1), 0), len(tones) - 1)
        return _mix(SKINS[self.skin], SKINS[tones[neighbour]], abs(self.skin_shade))

    @property
    def hair(self) -> Colour:
        return _mix(HAIR_COLOURS[self.hair_colour], _INK if self.hair_shade > 0 else _WHITE, abs(self.hair_shade))

    @property
    def hair_ends(self) -> float:
        """y of the ends of the hair that hangs down, in face units: -1 is the top of the head, 1 the chin."""
        ends = _HAIR_ENDS | {"bald": -1.0, "bun": -0.3, "curly": 0.3}
        return ends[self.hair_style] * (self.hair_length if self.hair_style in _HAIR_ENDS else 1.0)

    @property
    def cheer(self) -> float:
        """How glad the face looks: 1 with the widest smile, 0 with a straight mouth, -0.4 with the deepest frown."""
        return self.smile_height / WIDEST_SMILE if self.smile else self.mouth_curve / 0.25

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        """Return random attributes. All named values are equally likely; glasses and smile have probability 1/2."""

        def one_of(attribute: str) -> str:
            values = ATTRIBUTE_VALUES[attribute]
            return values[rng.integers(len(values))]

        return cls(
            glasses=bool(rng.integers(2)),
            smile=bool(rng.integers(2)),
            skin=one_of("skin"),
            hair_style=one_of("hair_style"),
            hair_colour=one_of("hair_colour"),
            eyes=one_of("eyes"),
            nose=one_of("nose"),
            background=one_of("background"),
            shirt=one_of("shirt"),
            x=rng.uniform(-0.03, 0.03),
            y=rng.uniform(-0.02, 0.03),
            scale=rng.uniform(0.92, 1.06),
            tilt_degrees=rng.uniform(-7.0, 7.0),
            face_width=rng.uniform(0.79, 0.92),
            eye_distance=rng.uniform(0.33, 0.39),
            eye_size=rng.uniform(0.9, 1.15),
            brow_height=rng.uniform(-0.03, 0.06),
            mouth_width=rng.uniform(0.31, 0.42),
            skin_shade=rng.uniform(-0.5, 0.5),
            hair_shade=rng.uniform(-0.3, 0.3),
            hair_length=rng.uniform(0.75, 1.25),
            smile_height=rng.uniform(0.14, WIDEST_SMILE),
            mouth_curve=rng.uniform(-0.1, 0.1),
            frame_width=rng.uniform(0.05, 0.13),
            tint=rng.uniform(0.0, 0.9),
        )


def draw_face(attributes: FaceAttributes, size: int) -> Image.Image:
    """Return the face as an RGB image of size x size pixels, a pure function of attributes and size."""
    background = BACKGROUNDS[attributes.background]
    large_size = size * _SUPERSAMPLING
    large = Image.new("RGB", (round(large_size * _MARGIN),) * 2, background)
    pen = _Pen(ImageDraw.Draw(large), large.width / 2, large_size, attributes)
    for draw_part in _PARTS:
        draw_part(pen, attributes)
    tilted = large.rotate(attributes.tilt_degrees, Image.Resampling.BILINEAR, fillcolor=background)
    start = (large.width - large_size) // 2
    return tilted.reduce(_SUPERSAMPLING, box=(start, start, start + large_size, start + large_size))


class _Pen:
    """Draws in face units on the large canvas."""

    def __init__(self, draw: ImageDraw.ImageDraw, centre: float, picture_size: int, face: FaceAttributes) -> None:
        self._draw = draw
        self._unit = 0.315 * picture_size * face.scale
        self._x = centre + picture_size * face.x
        self._y = centre + picture_size * (0.03 + face.y)  # slightly low, to leave room for hair

    def _pixels(self, point: Point) -> Point:
        return self._x + self._unit * point[0], self._y + self._unit * point[1]

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, fill: Colour) -> None:
        corners = self._pixels((x - radius_x, y - radius_y)), self._pixels((x + radius_x, y + radius_y))
        self._draw.ellipse(corners, fill=fill)

    def ring(self, x: float, y: float, radius: float, width: float, fill: Colour) -> None:
        turns = (2 * math.pi * step / 48 for step in range(50))
        self.stroke([(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns], width, fill)

    def polygon(self, points: list[Point], fill: Colour) -> None:
        self._draw.polygon([self._pixels(point) for point in points], fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, radius: float, fill: Colour) -> None:
        corners = self._pixels((left, top)), self._pixels((right, bottom))
        self._draw.rounded_rectangle(corners, self._unit * radius, fill=fill)

    def stroke(self, points: list[Point], width: float, fill: Colour) -> None:
        """Draw a line with round joints and ends."""
        self._draw.line([self._pixels(point) for point in points], fill, round(self._unit * width), "curve")
        for x, y in (points[0], points[-1]):
            self.ellipse(x, y, width / 2, width / 2, fill)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the mix of two colours with this share of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _curve(left: float, right: float, height: Callable[[float], float]) -> list[Point]:
    """Return points from left to right. `height` returns y for t from -1 to 1."""
    steps = [step / 12 - 1 for step in range(25)]
    return [((left + right) / 2 + (right - left) / 2 * t, height(t)) for t in steps]


def _hair_behind(pen: _Pen, face: FaceAttributes) -> None:
    hair, width = face.hair, face.face_width
    if face.hair_style == "bald":
        return
    if face.hair_style == "curly":
        for turn in np.linspace(-0.15, 1.15, 12) * math.pi:
            pen.ellipse(-1.0 * width * math.cos(turn), -0.3 - 0.85 * math.sin(turn), 0.42, 0.42, hair)
        return
    if face.hair_style == "bun":
        pen.ellipse(0.0, -1.18, 0.38, 0.33, hair)
    if face.hair_style in _HAIR_ENDS:
        pen.box(-width - 0.24, -0.6, width + 0.24, face.hair_ends, 0.4, _mix(hair, _INK, 0.2))
    pen.ellipse(0.0, -0.22, width + 0.14, 0.98, hair)


def _shoulders(pen: _Pen, face: FaceAttributes) -> None:
    skin, shirt = face.skin_colour, SHIRTS[face.shirt]
    pen.box(-1.25, 1.2, 1.25, 3.0, 0.5, shirt)
    pen.ellipse(0.0, 1.22, 0.42, 0.28, _mix(skin, _INK, 0.18))
    pen.box(-0.3, 0.6, 0.3, 1.3, 0.2, _mix(skin, _INK, 0.18))


def _head(pen: _Pen, face: FaceAttributes) -> None:
    skin, width = face.skin_colour, face.face_width
    for side in (-1, 1):
        pen.ellipse(side * width, 0.08, 0.17, 0.22, skin)
        pen.ellipse(side * width, 0.08, 0.09, 0.13, _mix(skin, (200, 70, 60), 0.25))
    pen.ellipse(0.0, 0.0, width, 1.0, skin)
    for side in (-1, 1):
        red = _mix(skin, (236, 84, 84), 0.25 + 0.4 * max(face.cheer, 0.0))
        pen.ellipse(side * 0.58 * width, 0.4, 0.19, 0.14, red)


def _hair_in_front(pen: _Pen, face: FaceAttributes) -> None:
    hair, width = face.hair, face.face_width
    if face.hair_style == "bald":
        pen.ellipse(-0.3, -0.72, 0.16, 0.09, _mix(face.skin_colour, _WHITE, 0.4))
        return
    if face.hair_style == "curly":
        for t in (-0.8, -0.4, 0.0, 0.4, 0.8):
            pen.ellipse(t * width, -0.86 + 0.35 * t * t, 0.27, 0.25, hair)
        return
    hairline: dict[str, Callable[[float], float]] = {
        "short": lambda t: -0.5 + 0.16 * t,
        "bob": lambda t: -0.46 + 0.12 * t * t,
        "long": lambda t: -0.82 + 0.75 * abs(t - 0.15) ** 1.4,
        "bun": lambda t: -0.74 + 0.5 * t * t,
    }
    outer = width + 0.1
    crown = _curve(-outer, outer, lambda t: -0.18 - 0.96 * math.sqrt(1 - t * t))
    pen.polygon(crown + _curve(outer, -outer, lambda t: hairline[face.hair_style](-t)), hair)
    shine = _curve(-0.55, -0.1, lambda t: -0.93 - 0.07 * t)
    pen.stroke(shine, 0.08, _mix(hair, _WHITE, 0.35))


def _eyes(pen: _Pen, face: FaceAttributes) -> None:
    def seen(colour: Colour) -> Colour:
        return _mix(colour, _INK, face.tint) if face.glasses else colour

    opened = 1 - 0.55 * max(face.cheer, 0.0)
    for side in (-1, 1):
        x, size = side * face.eye_distance, face.eye_size
        if face.glasses:
            pen.ellipse(x, 0.02, 0.31, 0.31, seen(_mix(face.skin_colour, _WHITE, 0.45)))
        pen.ellipse(x, 0.02, 0.17 * size, 0.19 * size * opened, seen(_WHITE))
        pen.ellipse(x, 0.03, 0.12 * size, 0.14 * size * opened, seen(EYE_COLOURS[face.eyes]))
        pen.ellipse(x, 0.03, 0.065 * size, 0.08 * size * opened, _INK)
        pen.ellipse(x + 0.045, 0.02 - 0.05 * opened, 0.04, 0.04 * opened, seen(_WHITE))


def _brows(pen: _Pen, face: FaceAttributes) -> None:
    colour = _mix(face.hair, _INK, 0.35)
    y = -0.36 - face.brow_height - 0.06 * face.cheer
    for side in (-1, 1):
        middle = side * face.eye_distance
        pen.stroke(_curve(middle - 0.17, middle + 0.17, lambda t: y + 0.06 * t * t), 0.08, colour)


def _nose(pen: _Pen, face: FaceAttributes) -> None:
    shade = _mix(face.skin_colour, (120, 40, 30), 0.32)
    if face.nose == "button":
        pen.ellipse(0.0, 0.3, 0.11, 0.08, shade)
    else:
        pen.stroke([(0.03, 0.08), (0.09, 0.32), (-0.04, 0.34)], 0.06, shade)


def _mouth(pen: _Pen, face: FaceAttributes) -> None:
    glad = max(face.cheer, 0.0)
    width = face.mouth_width * (0.65 + 0.4 * glad)
    opening = face.smile_height if face.smile else 0.0
    bend = 0.1 * glad if face.smile else face.mouth_curve
    corners = 0.6 - 0.3 * opening - 0.5 * bend

    def lip(share: float) -> list[Point]:
        """Return the curve from corner to corner below this share of the opening."""
        return _curve(-width, width, lambda t: corners + bend * (1 - t * t) + share * opening * math.sqrt(1 - t * t))

    upper, teeth, lower = (lip(share) for share in (0.0, 0.4, 1.0))
    pen.polygon(upper + lower[::-1], (130, 26, 42))
    pen.polygon(upper + teeth[::-1], _WHITE)
    for edge in (upper, lower):
        pen.stroke(edge, 0.06, (150, 52, 58))


def _glasses(pen: _Pen, face: FaceAttributes) -> None:
    if not face.glasses:
        return
    for side in (-1, 1):
        pen.ring(side * face.eye_distance, 0.02, 0.3, face.frame_width, _INK)
        pen.stroke([(side * (face.eye_distance + 0.3), -0.02), (side * face.face_width, -0.06)], 0.08, _INK)
    pen.stroke(_curve(0.3 - face.eye_distance, face.eye_distance - 0.3, lambda t: -0.05), 0.09, _INK)


_PARTS = (_hair_behind, _shoulders, _head, _hair_in_front, _eyes, _brows, _nose, _mouth, _glasses)
