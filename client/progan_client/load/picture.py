"""Draw the latencies of a load test: a histogram with a logarithmic time axis and marked percentiles. Pure."""

import math
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont

from progan_client.load.report import PERCENTILES, Report
from progan_client.load.summary import headline, milliseconds

SIZE = (1600, 900)  # pixels
MOST_BARS = 90

_LEFT, _TOP, _RIGHT, _BOTTOM = 120, 380, 1430, 755  # of the axes, with space for labels above and to the right
_LABEL_HEIGHT = 34
_INK, _GREY, _LINE, _PAPER = "#1f2933", "#66727f", "#e3e8ed", "#ffffff"
# Colour of the bars up to a percentile and of its mark; bars above the last percentile are red, too.
_COLOURS = {50: "#2b6cb0", 90: "#3f93cc", 95: "#d99a0b", 99: "#e8701a", 99.9: "#d64545"}

_Draw = ImageDraw.ImageDraw
_Span = tuple[float, float]  # the ends of the time axis, in seconds


def latency_picture(report: Report) -> Image.Image:
    """Return an RGB picture of SIZE."""
    picture = Image.new("RGB", SIZE, _PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_texts(draw, report)
    if report.calls:
        span = _span(report)
        _draw_bars(draw, report, span)
        _draw_time_axis(draw, span)
        _draw_marks(draw, report, span)
    else:
        middle = ((_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2)
        draw.text(middle, "no call succeeded", _GREY, _font(40), anchor="mm")
    return picture


def _draw_texts(draw: _Draw, report: Report) -> None:
    who, how = headline(report)
    rates = f"{report.calls_per_s:,.1f} calls/s, {report.images_per_s:,.1f} images/s"
    draw.text((_LEFT, 40), f"{report.calls:,} calls, {rates}", _INK, _font(42))
    draw.text((_LEFT, 100), who, _GREY, _font(26))
    draw.text((_LEFT, 136), how, _GREY, _font(26))
    if report.failures:
        codes = ", ".join(f"{code} {failure.count:,}" for code, failure in report.failures.items())
        draw.text((_LEFT, SIZE[1] - 86), f"failed: {codes}", _COLOURS[99.9], _font(24))
    if report.calls:
        medians = ", ".join(f"{name} {milliseconds(stage.percentile(50))} ms" for name, stage in report.stages.items())
        draw.text((_LEFT, SIZE[1] - 50), f"medians of the server: {medians}", _GREY, _font(24))


def _span(report: Report) -> _Span:
    """Return the range of the latencies with a margin, at least a factor of four."""
    shortest, longest = max(report.latency.min_s, 1e-6), max(report.latency.max_s, 1e-6)
    margin = max(1.1, math.sqrt(4 * shortest / longest))
    return shortest / margin, longest * margin


def _x(seconds: float, span: _Span) -> float:
    low, high = span
    return _LEFT + (_RIGHT - _LEFT) * math.log(max(seconds, low) / low) / math.log(high / low)


def _draw_bars(draw: _Draw, report: Report, span: _Span) -> None:
    merge = 1
    while len(bars := report.latency.buckets(merge)) > MOST_BARS or _too_thin(bars[0], span):
        merge += 1
    step, highest = _count_steps(max(count for _, _, count in bars))
    for level in range(0, highest + 1, step):
        y = _BOTTOM - (_BOTTOM - _TOP) * level / highest
        draw.line([(_LEFT, y), (_RIGHT, y)], _LINE, 2)
        draw.text((_LEFT - 14, y), f"{level:,}", _GREY, _font(22), anchor="rm")
    draw.text((_LEFT - 14, _TOP - 40), "calls", _GREY, _font(22), anchor="rm")
    bounds = {percent: report.latency.percentile(percent) for percent in PERCENTILES}
    for above, up_to, count in bars:
        height = max(3.0, (_BOTTOM - _TOP) * count / highest)  # so that a single slow call is visible
        colour = next((_COLOURS[percent] for percent, bound in bounds.items() if above < bound), _COLOURS[99.9])
        left, right = max(_x(above, span), _LEFT), min(_x(up_to, span), _RIGHT)
        draw.rectangle([round(left) + 1, _BOTTOM - height, max(round(right) - 2, round(left) + 1), _BOTTOM], colour)


def _too_thin(bar: tuple[float, float, int], span: _Span) -> bool:
    above, up_to, _ = bar
    return (_RIGHT - _LEFT) * math.log(up_to / above) / math.log(span[1] / span[0]) < 8


def _count_steps(most: int) -> tuple[int, int]:
    """Return (step, highest mark) of the axis of counts: at most eight steps of 1, 2 or 5 times a power of ten."""
    step = next(step for step in _round_numbers(0, (1, 2, 5)) if most / step <= 8)
    return int(step), int(step) * math.ceil(most / step)


def _round_numbers(exponent: int, digits: tuple[int, ...]) -> Iterator[float]:
    """Yield the digits times 10^exponent, then times the next power of ten, without end."""
    while True:
        yield from (digit * 10.0**exponent for digit in digits)
        exponent += 1


def _draw_time_axis(draw: _Draw, span: _Span) -> None:
    draw.line([(_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)], _INK, 2)
    free_from = 0.0
    digits = (1, 2, 5) if span[1] / span[0] > 30 else (1, 2, 3, 4, 5, 6, 7, 8, 9)
    for milli in _round_numbers(-3, digits):
        x = _x(milli / 1000, span)
        if milli / 1000 > span[1]:
            break
        if milli / 1000 < span[0] or x < free_from:
            continue
        draw.line([(x, _BOTTOM), (x, _BOTTOM + 10)], _INK, 2)
        draw.text((x, _BOTTOM + 18), f"{milli:g}", _INK, _font(24), anchor="ma")
        free_from = x + 76
    draw.text((_RIGHT, _BOTTOM + 58), "milliseconds", _GREY, _font(24), anchor="ra")


def _draw_marks(draw: _Draw, report: Report, span: _Span) -> None:
    """Draw each percentile as a line to the axis with its label on the right.

    If two labels would overlap, the left one is drawn higher, so no line crosses the label of another.
    """
    marks = [(f"p{percent:g}", report.latency.percentile(percent), _COLOURS[percent]) for percent in PERCENTILES]
    free_to = [math.inf] * (len(marks) + 1)  # right end of the free space in each row of labels
    for name, seconds, colour in [("max", report.latency.max_s, _INK), *reversed(marks)]:
        x, text, font = _x(seconds, span), f"{name}  {milliseconds(seconds)}", _font(26)
        right = x + 28 + draw.textlength(text, font)
        row = next(row for row, _ in enumerate(free_to) if right < min(free_to[row:]))
        free_to[row] = x
        y = _TOP - 24 - _LABEL_HEIGHT * row
        draw.line([(x, y - 12), (x, _BOTTOM)], colour, 3)
        draw.text((x + 8, y), text, colour, font, anchor="lm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
