"""Curves, drawn. What can be said without eyes: where the colour of a run is, and how high."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.pictures.chart import WIDTH, Curve, Panel, Stretch, Strip, chart

BLUE, ORANGE = (0x2B, 0x6C, 0xB0), (0xE8, 0x71, 0x1A)


def drawn(*curves: Curve, strips: tuple[Strip, ...] = ()) -> NDArray[np.uint8]:
    """The pixels below the legend."""
    legend = [f"runs/{run}" for run in sorted({curve.run for curve in curves})]
    return np.asarray(chart(legend, strips, [Panel("loss", curves)]))[40 + 40 * len(legend) :]


def rows_of(picture: NDArray[np.uint8], colour: tuple[int, int, int], x: int) -> NDArray[np.int64]:
    near = np.abs(picture[:, x].astype(int) - colour).max(axis=-1) < 12
    return np.flatnonzero(near)


def test_a_curve_that_falls_goes_down_the_page() -> None:
    picture = drawn(Curve(0, [(0, 3.0), (10, 1.0), (20, 0.0)]))
    heights = [rows_of(picture, BLUE, x).mean() for x in (200, 600, 1000, 1500)]
    assert heights == sorted(heights)
    assert picture.shape[1] == WIDTH


def test_runs_have_their_colours() -> None:
    picture = drawn(Curve(0, [(0, 1.0), (20, 1.0)]), Curve(1, [(0, 2.0), (20, 2.0)]))
    assert rows_of(picture, ORANGE, 800).mean() < rows_of(picture, BLUE, 800).mean()


def test_a_thin_curve_is_thinner() -> None:
    picture = drawn(Curve(0, [(0, 1.0), (20, 1.0)]), Curve(1, [(0, 2.0), (20, 2.0)], faint=True))
    assert len(rows_of(picture, ORANGE, 800)) < len(rows_of(picture, BLUE, 800))


def test_a_value_that_is_no_number_leaves_a_gap() -> None:
    picture = drawn(Curve(0, [(0, 1.0), (5, 1.0), (10, math.nan), (15, math.inf), (18, 1.0), (20, 1.0)]))
    assert [len(rows_of(picture, BLUE, x)) > 0 for x in (200, 840, 1100, 1500)] == [True, False, False, True]


@pytest.mark.parametrize("points", [[], [(0.0, 0.0)], [(4.0, 7.0)], [(4.0, math.nan)], [(4.0, -1e30), (8.0, 1e30)]])
def test_any_points_can_be_drawn(points: list[tuple[float, float]]) -> None:
    assert drawn(Curve(0, points)).shape[1] == WIDTH


def test_one_wild_value_does_not_flatten_the_rest() -> None:
    points = [(float(x), math.sin(x)) for x in range(200)]
    calm, wild = drawn(Curve(0, points)), drawn(Curve(0, [*points[:100], (100.0, 1e9), *points[101:]]))
    heights = [np.ptp(np.concatenate([rows_of(picture, BLUE, x) for x in range(200, 400)])) for picture in (calm, wild)]
    assert heights[1] > 0.8 * heights[0]


def test_stages_are_marked_above_the_curves() -> None:
    stretches = [Stretch(0, 10, "4x4", fading=False), Stretch(10, 20, "8x8", fading=True)]
    picture = drawn(Curve(0, [(0, 1.0), (20, 1.0)]), strips=(Strip([0], stretches),))
    stable, fading = picture[4, 200].tolist(), picture[4, 1500].tolist()
    assert (stable, fading) == ([0xB6, 0xC0, 0xCA], [0xE3, 0xE8, 0xED])
    assert picture[150, 840].tolist() != picture[150, 850].tolist()  # a line through the panel where 8x8 begins
