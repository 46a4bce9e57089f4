"""The range of a module's images, 0..1 or -1..1: from the end of its graph, else from its pixels, else refused.

Nothing in a module says what its range is, and images of the wrong one are too dark, or too pale, by half.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.sources.tfhub.limits import HubModuleError

Array = NDArray[np.float32]

# As it is given -> as it is called, and the gain and offset by which images of it come to -1..1.
RANGES = {"unit": ("0..1", 2.0, -1.0), "signed": ("-1..1", 1.0, 0.0)}

_BOUNDS = {(0.0, 1.0): "unit", (-1.0, 1.0): "signed"}
_DOCUMENTED = re.compile(r"https://(tfhub\.dev|(www\.)?kaggle\.com/models)/google/progan-128/")
_EVERYTHING = (-np.inf, np.inf)
_SAME_BOUNDS = {"Identity", "IdentityN", "Reshape", "Transpose", "StopGradient", "Squeeze", "ExpandDims"}


class ValueRange(NamedTuple):
    """The range of a module's images.

    name           "0..1" or "-1..1"
    gain, offset   gain * images + offset are images in -1..1
    reason         why it is this one
    """

    name: str
    gain: float
    offset: float
    reason: str


class Bounds(NamedTuple):
    """The least and the greatest value that a graph can give. clips: it cuts off what lies outside of them."""

    least: float
    most: float
    clips: bool


def value_range(origin: str, given: str, bounds: Bounds, images: Array) -> ValueRange:
    """Return the range of images [N, R, R, C] of ordinary latents. `given` is a key of RANGES or "".

    Raises HubModuleError for values of neither range, and where nothing settles which of them it is.
    """
    if np.mean(np.abs(images) > 2) > 0.1:
        least, most = np.percentile(images, [5, 95])
        raise HubModuleError(
            f"{origin}: most values of its images lie in {least:.3g}..{most:.3g}, not in 0..1 or -1..1"
        )
    if given:
        return ValueRange(*RANGES[given], "as given by --value-range")
    if kind := _BOUNDS.get((round(bounds.least, 5), round(bounds.most, 5))):
        return ValueRange(*RANGES[kind], "its graph can give no other values")
    if _DOCUMENTED.match(origin):
        return ValueRange(*RANGES["unit"], "as the tutorial of TF Hub shows its images")
    return _by_pixels(origin, images)


def _by_pixels(origin: str, images: Array) -> ValueRange:
    """Networks go a little beyond black and white, so few values below 0 do not contradict 0..1."""
    dark = 100 * float(np.mean(images < -0.25))
    if dark > 1:
        return ValueRange(*RANGES["signed"], f"{dark:.0f} % of the values lie below -0.25")
    least, most = (float(end) for end in np.percentile(images, [0.5, 99.5]))
    if -0.05 < least < 0.1 and 0.5 < most < 1.1 and images.min() > -0.1:
        return ValueRange(*RANGES["unit"], f"the values go from {least:.2f} to {most:.2f}")
    raise HubModuleError(
        f"{origin}: its images, with values from {least:.2f} to {most:.2f}, do not show whether black is 0 or -1; "
        "give --value-range unit (0..1) or --value-range signed (-1..1), whichever its page says"
    )


# The end of a graph


def bounds_of(graph: Any, output: str) -> Bounds:
    """Return the bounds of a tensor of a graph without variables, as far as the last operations show them."""
    nodes = {node.name: node for node in graph.node}
    clipping: list[str] = []

    @cache
    def bounds(name: str, depth: int = 0) -> tuple[float, float]:
        node = nodes.get(name.partition(":")[0])
        if node is None or depth > 50:
            return _EVERYTHING
        if node.op == "Const":
            return _ends(tf.make_ndarray(node.attr["value"].tensor))
        if node.op in _BOUNDED:
            return _BOUNDED[node.op]
        inputs = [name for name in node.input if not name.startswith("^")]
        if node.op in _SAME_BOUNDS:
            return bounds(inputs[0], depth + 1)
        if node.op not in _BOUNDS_OF:
            return _EVERYTHING
        if node.op in _CLIPPING:
            clipping.append(name)
        return _BOUNDS_OF[node.op](*(bounds(name, depth + 1) for name in inputs))

    least, most = bounds(output)
    return Bounds(least, most, bool(clipping) and bool(np.isfinite([least, most]).all()))


def _ends(array: NDArray[Any]) -> tuple[float, float]:
    if array.dtype != np.float32 or not array.size:
        return _EVERYTHING
    return float(array.min()), float(array.max())


Interval = tuple[float, float]


def _of_products(x: Interval, y: Interval) -> Interval:
    products = [0.0 if 0.0 in (a, b) else a * b for a in x for b in y]
    return min(products), max(products)


def _of_quotients(x: Interval, y: Interval) -> Interval:
    return _EVERYTHING if y[0] <= 0 <= y[1] else _of_products(x, (1 / y[1], 1 / y[0]))


def _of_sums(x: Interval, y: Interval) -> Interval:
    return x[0] + y[0], x[1] + y[1]


_BOUNDED: Mapping[str, Interval] = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}
_CLIPPING = {"Minimum", "Maximum", "ClipByValue"}
_BOUNDS_OF: Mapping[str, Callable[..., Interval]] = {
    "Add": _of_sums,
    "AddV2": _of_sums,
    "BiasAdd": _of_sums,
    "Sub": lambda x, y: (x[0] - y[1], x[1] - y[0]),
    "Mul": _of_products,
    "RealDiv": _of_quotients,
    "Minimum": lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
    "Maximum": lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
    "ClipByValue": lambda x, low, high: (min(max(x[0], low[0]), high[1]), min(max(x[1], low[0]), high[1])),
}
