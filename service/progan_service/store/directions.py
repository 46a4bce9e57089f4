"""`directions.json`: directions in the latent space of a version, along which latents can be edited.

Directions belong to the version that they were found in: those of another one mean nothing. So the file is one of the
version's files, and its digest counts.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from progan_service import formats

DIRECTIONS_FILE = "directions.json"
FORMAT_VERSION = 1
MAX_DIRECTIONS_BYTES = 4 * 2**20  # of the file; 64 directions of 512 numbers take half a megabyte
MAX_DIRECTIONS = 64

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
NAME_RULE = "1 to 63 small letters, digits, dashes or underscores, beginning with a letter"

_UNIT_TOLERANCE = 1e-4
_MAX_SAMPLES = 10**9


@dataclass(frozen=True)
class Direction:
    """A direction, and how well it does what its name says.

    vector     unit vector [latent_size]
    origin     "fitted" to scores, or "discovered": one of those along which images change most
    samples    how many images it was made from
    r          correlation of its scores with images that the fit did not see; None for a discovered one
    monotone   share of latents whose score rises with each step from -3 to 3; None if that was not measured
    shift_sd   by how many of its own standard deviations the score rises with each unit; None for a discovered one
    unknown    keys that a newer release has written, kept as they are
    """

    name: str
    vector: tuple[float, ...]
    origin: Literal["fitted", "discovered"]
    samples: int = 0
    r: float | None = None
    monotone: float | None = None
    shift_sd: float | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise FormatError for a value against its rule."""
        require, name = formats.require, self.name
        require(NAME.fullmatch(name) is not None, "name", name, NAME_RULE)
        require(0 <= self.samples <= _MAX_SAMPLES, f"samples of {name!r}", self.samples, f"0 to {_MAX_SAMPLES}")
        for what, low, high in (("r", -1, 1), ("monotone", 0, 1), ("shift_sd", -1e6, 1e6)):
            value = getattr(self, what)
            rule = f"a number from {low:g} to {high:g}, or null"
            require(value is None or low <= value <= high, f"{what} of {name!r}", value, rule)
        length = math.sqrt(sum(value * value for value in self.vector))
        is_unit = abs(length - 1) <= _UNIT_TOLERANCE  # false for what is not finite
        require(is_unit, f"the length of the vector of {name!r}", length, "1")

    @property
    def array(self) -> NDArray[np.float64]:
        """The vector [latent_size], with length 1 to the last digit."""
        vector = np.array(self.vector, np.float64)
        return np.asarray(vector / np.linalg.norm(vector))


def directions_to_json(directions: Iterable[Direction]) -> str:
    """Return the content of the file. Raises FormatError for what its reader would refuse."""
    listed = []
    for direction in directions:
        values = asdict(direction)
        listed.append({**values.pop(formats.UNKNOWN), **values})
    content = json.dumps({formats.VERSION_KEY: FORMAT_VERSION, "directions": listed}) + "\n"
    formats.check_size(content, MAX_DIRECTIONS_BYTES)
    directions_from_json(content)
    return content


def directions_from_json(content: str | bytes, latent_size: int | None = None) -> dict[str, Direction]:
    """Return the directions that a file holds, by name, in its order.

    latent_size   that of the version; None: any
    Raises FormatError, which names the value and its rule.
    """
    listed = formats.parse(content, FORMAT_VERSION).get("directions")
    formats.require(isinstance(listed, list), "directions", listed, "a list")
    assert isinstance(listed, list)
    formats.require(len(listed) <= MAX_DIRECTIONS, "the number of directions", len(listed), f"at most {MAX_DIRECTIONS}")
    found: dict[str, Direction] = {}
    for place, document in enumerate(listed):
        values = formats.field_values(Direction, document, f"directions[{place}]")
        direction = Direction(**values, unknown=formats.unknown_values(Direction, document))
        formats.require(direction.name not in found, "a name of directions", direction.name, "given once")
        size, rule = len(direction.vector), f"{latent_size}, the latent_size"
        is_right = latent_size in (None, size)
        formats.require(is_right, f"the size of the vector of {direction.name!r}", size, rule)
        found[direction.name] = direction
    return found
