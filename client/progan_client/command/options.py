"""The parsed options of each command with their types; `parser` explains them."""

from pathlib import Path
from typing import Protocol

from progan_client.arguments import Fit
from progan_client.channel import Tls
from progan_client.images import Encoding


class Connection(Protocol):
    """The options of every command. `main` reads `tls` and `token` from files and the environment."""

    target: str
    timeout: float | None
    tls: Tls | None
    token: str
    allow_plain_token: bool


class ModelOptions(Connection, Protocol):
    """The options of commands that make images."""

    label: list[str] | None
    labels: list[float] | None
    model: str
    version: int | str | None
    bulk: bool


class EditOptions(ModelOptions, Protocol):
    """The options of commands that make images and may edit them."""

    edit: list[tuple[str, float]] | None
    sets: list[tuple[str, float]] | None
    hold: list[str] | None


class OutputOptions(Protocol):
    """The options of commands that write images."""

    output: str
    each: bool
    format: str | None
    quality: int | None
    scale: int


class GenerateOptions(EditOptions, OutputOptions, Protocol):
    """The options of `generate`."""

    seed: int | None
    seeds: list[int] | None
    latents: Path | None
    count: int | None
    columns: int | None


class InterpolateOptions(EditOptions, OutputOptions, Protocol):
    """The options of `walk`."""

    seeds: list[int] | None
    latents: Path | None
    frames: int
    linear: bool
    smooth: bool
    even: bool
    loop: bool
    fps: float


class SearchOptions(ModelOptions, OutputOptions, Protocol):
    """The options of commands that find the latents of pictures."""

    fit: Fit
    max_evaluations: int
    enough: float


class InvertOptions(SearchOptions, Protocol):
    """The options of `invert`."""

    pictures: list[Path]
    save_latents: Path | None
    columns: int | None


class EditPhotoOptions(EditOptions, SearchOptions, Protocol):
    """The options of `edit`."""

    picture: Path
    beside: bool


class SheetOptions(ModelOptions, OutputOptions, Protocol):
    """The options of `sheet`."""

    seeds: list[int] | None
    latents: Path | None
    edit: tuple[str, list[float]]
    hold: list[str] | None


class HealthOptions(Connection, Protocol):
    """The options of `health`."""

    model: str
    wait: float | None


class LoadOptions(EditOptions, Protocol):
    """The options of `load`."""

    clients: int | None
    rate: float | None
    even: bool
    duration: float | None
    calls: int | None
    warmup: float
    connections: int
    retries: bool
    images: int
    format: Encoding
    json: Path | None
    output: Path | None
