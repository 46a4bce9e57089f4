"""The arguments of the calls, with their types. `Client` explains them, `requests` checks them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypedDict

from numpy.typing import ArrayLike

from progan_client.images import Encoding

InterpolationPath = Literal["spherical", "linear", "smooth"]
Pace = Literal["uniform", "even"]
Fit = Literal["crop", "pad", "stretch"]


class ModelArguments(TypedDict, total=False):
    """Which model makes images, with which labels, and how they are sent; `Client.generate` explains them."""

    label: str | None
    labels: ArrayLike | Sequence[str] | None
    model: str
    version: int | str | None
    encoding: Encoding
    quality: int
    bulk: bool


class ImageArguments(ModelArguments, total=False):
    """The arguments that every call for images of latents has; `Client.generate` explains them."""

    edits: Mapping[str, float] | None
    sets: Mapping[str, float] | None
    hold: Sequence[str]


class InvertArguments(ModelArguments, total=False):
    """The arguments of `invert`, beside the pictures; `Client.invert` explains them."""

    fit: Fit
    max_evaluations: int
    enough_db: float


class GenerateArguments(ImageArguments, total=False):
    """The arguments of `generate` and `stream`; `Client.generate` explains them."""

    latents: ArrayLike | None
    seeds: Iterable[int] | None
    count: int | None
    seed: int | None


class InterpolateArguments(ImageArguments, total=False):
    """The arguments of `interpolate`; `Client.interpolate` explains them."""

    latents: ArrayLike | None
    seeds: Iterable[int] | None
    frames_between: int
    path: InterpolationPath
    pace: Pace
    loop: bool
