"""What a service tells about its models."""

from dataclasses import dataclass
from typing import Any, Literal

ModelState = Literal["available", "loading", "ready", "failed", "unspecified"]


@dataclass(frozen=True)
class ServedModel:
    """The model version that made some images; `digest` is "sha256:" and 64 hexadecimal digits over its files."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    `state`         "available" (in the store), "loading", "ready" (answers), "failed" (then `error` says why).
    `resolution`    images are resolution x resolution pixels.
    `channels`      1 (grey) or 3 (RGB).
    `label_count`   0: the model takes no labels.
    `label_names`   label_count names, or none when they are unknown.
    `provenance`    where the version came from and how it was trained.
    """

    version: int
    state: ModelState
    error: str
    digest: str
    latent_size: int
    resolution: int
    channels: int
    label_count: int
    label_names: tuple[str, ...]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A model and its versions, newest first; `is_default`: it answers calls that name no model."""

    name: str
    versions: tuple[ModelVersion, ...]
    is_default: bool
