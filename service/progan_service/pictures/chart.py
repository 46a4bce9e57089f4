"""Curves over a shared axis of thousands of images: panels below each other, and strips of stages above them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]

WIDTH = 1600
_LEFT, _RIGHT, _MARGIN = 120, 1560, 40
_LEGEND_HEIGHT, _STRIP_HEIGHT, _PANEL_HEIGHT, _TITLE_HEIGHT, _AXIS_HEIGHT = 40, 34, 220, 46, 80
_INK, _GREY, _RULE, _STAGE, _PAPER = "#1f2933", "#66727f", "#e3e8ed", "#b6c0ca", "#ffffff"
_COLOURS = ("#2b6cb0", "#e8701a", "#2f9e5b", "#d64545", "#8a63b8", "#8c6d4f", "#d36ba6", "#5f6b76")
_ZOOM = 2  # drawn larger and reduced, so that lines are smooth
_OUTLIERS = 0.01  # of the values of a panel, at each end: what lies far beyond the others is drawn at the border

_Span = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One line of a panel: points (x, y) by rising x. `run` selects its colour; a faint one is thin."""

    run: int
    points: Points
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves with a shared y axis."""

    title: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Stretch:
    """A stage of growth from x to x; a fade-in is drawn in a lighter tone."""

    start: float
    end: float
    name: str
    fading: bool


@dataclass(frozen=True)
class Strip:
    """The stages of the runs that share a schedule."""

    runs: Sequence[int]
    stretches: Sequence[Stretch]


def chart(legend: Sequence[str], strips: Sequence[Strip], panels: Sequence[Panel]) -> Image.Image:
    """Return an RGB picture, WIDTH pixels wide. `legend` has the name of each run."""
    highest = max((x for panel in panels for curve in panel.curves for x, _ in curve.points), default=1.0) or 1.0
    panels_top = _MARGIN + len(legend) * _LEGEND_HEIGHT + len(strips) * _STRIP_HEIGHT
    bottom = panels_top + len(panels) * (_TITLE_HEIGHT + _PANEL_HEIGHT)
    drawing = _Drawing(bottom + _AXIS_HEIGHT, highest)
    for number, name in enumerate(legend):
        drawing.legend(_MARGIN + number * _LEGEND_HEIGHT, number, name)
    for number, strip in enumerate(strips):
        drawing.strip(_MARGIN + len(legend) * _LEGEND_HEIGHT + number * _STRIP_HEIGHT, strip, len(legend))
    stages = [stretch.start for stretch in strips[0].stretches if stretch.start] if len(strips) == 1 else []
    for number, panel in enumerate(panels):
        drawing.panel(panels_top + number * (_TITLE_HEIGHT + _PANEL_HEIGHT) + _TITLE_HEIGHT, panel, stages)
    drawing.x_axis(bottom)
    return drawing.picture()


class _Drawing:
    """A page with the x axis 0 ... highest. Positions are pixels of the final picture."""

    def __init__(self, height: int, highest: float) -> None:
        self._image = Image.new("RGB", (WIDTH * _ZOOM, height * _ZOOM), _PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._highest = highest

    def picture(self) -> Image.Image:
        return self._image.reduce(_ZOOM)

    def legend(self, y: float, run: int, name: str) -> None:
        self._line([(_LEFT, y + 12), (_LEFT + 44, y + 12)], _colour(run), 5)
        self._text((_LEFT + 60, y + 12), name, _INK, 26, "lm")

    def strip(self, y: float, strip: Strip, runs: int) -> None:
        if len(strip.runs) < runs:
            self._dots(y + 11, strip.runs)
        for stretch in strip.stretches:
            left, right = self._x(stretch.start), self._x(min(stretch.end, self._highest))
            if stretch.start >= self._highest:
                continue
            self._box((left, y, right, y + 22), _RULE if stretch.fading else _STAGE)
            if self._length(stretch.name, 18) < right - left - 4:
                self._text(((left + right) / 2, y + 11), stretch.name, _INK, 18, "mm")

    def panel(self, top: float, panel: Panel, stages: Sequence[float]) -> None:
        bottom = top + _PANEL_HEIGHT - 10
        self._text((_LEFT, top - 18), panel.title, _INK, 24, "lm")
        values = [value for curve in panel.curves for _, value in curve.points if math.isfinite(value)]
        span = _span(values)

        def y(value: float) -> float:
            share = (min(max(value, span[0]), span[1]) - span[0]) / (span[1] - span[0])
            return bottom - share * (bottom - top)

        for start in stages:
            if start < self._highest:
                self._line([(self._x(start), top), (self._x(start), bottom)], _STAGE, 1)
        for mark in _marks(span, 5):
            self._line([(_LEFT, y(mark)), (_RIGHT, y(mark))], _RULE, 1)
            self._text((_LEFT - 12, y(mark)), f"{mark:g}", _GREY, 20, "rm")
        for curve in panel.curves:
            width = 1.5 if curve.faint else 3
            for stretch in _finite(curve.points):
                pixels = [(self._x(x), y(value)) for x, value in stretch]
                self._line(pixels, _colour(curve.run), width)
                if len(pixels) == 1:
                    self._dot(pixels[0], 2 * width, _colour(curve.run))

    def x_axis(self, y: float) -> None:
        self._line([(_LEFT, y - 10), (_RIGHT, y - 10)], _INK, 2)
        for mark in _marks((0.0, self._highest), 10):
            self._line([(self._x(mark), y - 10), (self._x(mark), y)], _INK, 2)
            self._text((self._x(mark), y + 6), f"{mark:g}", _GREY, 20, "mt")
        self._text((_RIGHT, y + 36), "images shown, in thousands", _GREY, 20, "rt")

    def _x(self, value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * value / self._highest

    def _dots(self, y: float, runs: Sequence[int]) -> None:
        for place, run in enumerate(reversed(runs)):
            self._dot((_LEFT - 16 - 16 * place, y), 6, _colour(run))

    def _line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        self._draw.line([(x * _ZOOM, y * _ZOOM) for x, y in points], colour, round(width * _ZOOM), joint="curve")

    def _box(self, corners: tuple[float, float, float, float], colour: str) -> None:
        self._draw.rectangle([corner * _ZOOM for corner in corners], colour)

    def _dot(self, centre: tuple[float, float], radius: float, colour: str) -> None:
        x, y = centre
        self._draw.ellipse([each * _ZOOM for each in (x - radius, y - radius, x + radius, y + radius)], colour)

    def _text(self, place: tuple[float, float], text: str, colour: str, size: int, anchor: str) -> None:
        self._draw.text((place[0] * _ZOOM, place[1] * _ZOOM), text, colour, _font(size), anchor)

    def _length(self, text: str, size: int) -> float:
        return self._draw.textlength(text, _font(size)) / _ZOOM


def _colour(run: int) -> str:
    return _COLOURS[run % len(_COLOURS)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _ZOOM)


def _span(values: Sequence[float]) -> _Span:
    """Return the range of a y axis: that of the values without outliers, with a margin."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(values)
    out = math.floor(len(ordered) * _OUTLIERS)
    low, high = ordered[out], ordered[-1 - out]
    margin = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _marks(span: _Span, most: int) -> Iterator[float]:
    """Yield the marks of an axis: at most about that many, at multiples of 1, 2 or 5 times a power of ten."""
    width = span[1] - span[0]
    power = 10.0 ** math.floor(math.log10(width / most))
    step = next(power * digit for digit in (1, 2, 5, 10) if width / (power * digit) <= most)
    for number in range(math.ceil(span[0] / step), math.floor(span[1] / step) + 1):
        yield number * step


def _finite(points: Points) -> Iterator[list[tuple[float, float]]]:
    """Yield the stretches of points between values that are no numbers."""
    stretch: list[tuple[float, float]] = []
    for point in points:
        if math.isfinite(point[1]):
            stretch.append(point)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch
