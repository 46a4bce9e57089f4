"""What a service tells about its models."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from progan_client.errors import ArgumentError

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

    def one_hot(self, label: str) -> NDArray[np.float32]:
        """The label vector [label_count] of a label, by its name: what `Client.generate(labels=...)` takes.

        ArgumentError for a name that is not among `label_names`.
        """
        if label not in self.label_names:
            rule = f"must be one of {', '.join(self.label_names)}" if self.label_names else "is for models with labels"
            raise ArgumentError("label", rule, label)
        vector = np.zeros(self.label_count, np.float32)
        vector[self.label_names.index(label)] = 1.0
        return vector


@dataclass(frozen=True)
class Model:
    """A model and its versions, newest first; `is_default`: it answers calls that name no model."""

    name: str
    versions: tuple[ModelVersion, ...]
    is_default: bool
