"""Scores of the images of seeds: a CSV with the columns seed,NAME,..., written by hand or by a program."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.errors import ConfigError
from progan_service.names import shown
from progan_service.store.directions import MAX_DIRECTIONS, NAME, NAME_RULE

LEAST_ROWS = 100


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores [N, S] of the images of seeds [N], by names of directions. Raises ConfigError for what has no fit."""

    seeds: NDArray[np.uint64]
    names: tuple[str, ...]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        check_names(self.names)
        if len(self.seeds) < LEAST_ROWS:
            raise ConfigError(f"there are scores of {len(self.seeds)} seeds: must be {LEAST_ROWS} or more, better 2000")
        for name, values in zip(self.names, self.values.T, strict=True):
            if np.ptp(values) == 0:
                raise ConfigError(f"{name} is {values[0]:g} for all seeds: scores must differ")

    def to_csv(self) -> str:
        """Return the content of the file."""
        rows = zip(self.seeds, self.values, strict=True)
        lines = [",".join([str(seed), *(f"{value:.9g}" for value in values)]) for seed, values in rows]
        return "\n".join([",".join(["seed", *self.names]), *lines]) + "\n"


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError unless scores of these names can become directions."""
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError(f"a score is named {shown(name)!r}: the name of a direction must be {NAME_RULE}")
    if len(set(names)) < len(names) or not 1 <= len(names) <= MAX_DIRECTIONS:
        raise ConfigError(f"there are {len(names)} scores: must be 1 to {MAX_DIRECTIONS}, with different names")


def read_scores(path: Path, content: bytes) -> Scores:
    """Return the scores of a CSV. Raises ConfigError, which names the line and the rule."""
    try:
        header, *lines = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"))) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is no CSV ({error})") from None
    names = tuple(name.strip() for name in header[1:])
    if not names or header[0].strip() != "seed":
        raise ConfigError(f"{path}: begins with {shown(','.join(header))!r}: must begin with seed,NAME,...")
    seeds: dict[int, list[float]] = {}
    for number, row in enumerate(lines, start=2):
        seed, values = _row(f"{path}, line {number}", row, names)
        if seed in seeds:
            raise ConfigError(f"{path}, line {number}: has seed {seed} again")
        seeds[seed] = values
    try:
        return Scores(np.array(list(seeds), np.uint64), names, np.array(list(seeds.values())).reshape(-1, len(names)))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _row(where: str, row: list[str], names: tuple[str, ...]) -> tuple[int, list[float]]:
    if len(row) != len(names) + 1:
        raise ConfigError(f"{where}: has {len(row)} values: must have {len(names) + 1}")
    seed = row[0].strip()
    if not (seed.isascii() and seed.isdecimal() and len(seed) <= 20 and int(seed) < 2**64):
        raise ConfigError(f"{where}: seed is {shown(seed)!r}: must be a whole number from 0 to 2^64 - 1")
    values = []
    for name, text in zip(names, row[1:], strict=True):
        try:
            values.append(float(text))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise ConfigError(f"{where}: {name} is {shown(text)!r}: must be a number")
    return int(seed), values
