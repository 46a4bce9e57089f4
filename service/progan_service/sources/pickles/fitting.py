"""Stored variables become the weights of our generator: which goes where, whether all fit, and in which layout."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.sources.pickles.restricted import RefusedPickleError

Array = NDArray[np.float32]
Variables = Mapping[str, Array]


@dataclass(frozen=True)
class Place:
    """Where a stored variable belongs.

    path    of the weight in our generator, such as "4x4/conv/kernel"
    shape   of the stored variable
    ours    returns it in our layout
    """

    path: str
    shape: tuple[int, ...]
    ours: Callable[[Array], Array] = lambda array: array


Table = Mapping[str, Place]  # by the names in the file


def size(variables: Variables, name: str) -> int:
    """Return the length of the first axis of a variable. Raises RefusedPickleError when there is none."""
    if name not in variables:
        raise RefusedPickleError(f"holds no variable {name}")
    if variables[name].ndim == 0:
        raise RefusedPickleError(f"{name} is a single number")
    return len(variables[name])


def check_variables(variables: Variables, shapes: Mapping[str, tuple[int, ...]], config: NetworkConfig) -> None:
    """Raise RefusedPickleError unless the variables have exactly these names and shapes, and are finite."""
    network = f"a generator of {config.resolution}x{config.resolution} images"
    if missing := shapes.keys() - variables.keys():
        raise RefusedPickleError(f"holds no variable {min(missing)}, which {network} has")
    if surplus := variables.keys() - shapes.keys():
        raise RefusedPickleError(f"holds the variable {min(surplus)}, which {network} does not have")
    for name, shape in shapes.items():
        if variables[name].shape != shape:
            raise RefusedPickleError(f"{name} has shape {variables[name].shape}, not {shape}")
        if not np.isfinite(variables[name]).all():
            raise RefusedPickleError(f"{name} holds numbers that are not finite")


def growth(lod: float, final_resolution: int) -> tuple[int, float]:
    """Return the resolution that a network had grown to, and how far that was blended in.

    lod   how many doublings were still missing
    """
    last = final_resolution.bit_length() - 3
    if not 0 <= lod <= last:
        raise RefusedPickleError(f"lod is {lod:g}: must lie between 0 and {last}")
    return final_resolution >> math.floor(lod), 1.0 - (lod - math.floor(lod))


def filled(config: NetworkConfig, variables: Variables, table: Table) -> Generator:
    """Return a generator with these variables, which must fit."""
    generator = Generator(config, name="generator_ema")
    weights = {weight.path.split("/", 1)[1]: weight for weight in generator.weights}
    for name, place in table.items():
        weights[place.path].assign(place.ours(variables[name]))
    return generator
