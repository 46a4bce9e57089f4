"""What a service tells about its models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from progan_client.errors import ArgumentError

ModelState = Literal["available", "loading", "ready", "failed", "draining", "unspecified"]


@dataclass(frozen=True)
class ServedModel:
    """The model version that made some images; `digest` is "sha256:" and 64 hexadecimal digits over its files."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    `state`         "available" (in the store), "loading", "ready" (answers), "failed" (then `error` says why) or
                    "draining" (replaced, and ends what it has begun).
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

    @property
    def source(self) -> str:
        """The provenance's "source", what kind of thing the version was made from; empty when it tells none."""
        return self._told("source")

    @property
    def origin(self) -> str:
        """The provenance's "origin", an address or file name; empty when it tells none."""
        return self._told("origin")

    @property
    def license(self) -> str:
        """The provenance's "license", its name or text; empty when it tells none."""
        return self._told("license")

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

    def _told(self, name: str) -> str:
        value = self.provenance.get(name)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Model:
    """A model and its versions.

    `versions`         newest first.
    `is_default`       it answers calls that name no model.
    `serving_version`  the version that answers calls which name none; None while there is none.
    `pinned_version`   the version that an operator has chosen to serve; None: the newest good one serves.
    `version_labels`   label -> the version that answers calls which name the label.
    `error`            what is wrong with the operator's choice of versions (the one before it holds), or empty.
    """

    name: str
    versions: tuple[ModelVersion, ...]
    is_default: bool
    serving_version: int | None
    pinned_version: int | None
    version_labels: Mapping[str, int]
    error: str

    def version(self, version: int | str | None = None) -> ModelVersion:
        """The version of a number or a label; None: the one that serves. ArgumentError when there is none."""
        if version is None and self.serving_version is None:
            raise ArgumentError("version", f"must be given, as no version of model {self.name} serves", version)
        number = self.serving_version if version is None else self.version_labels.get(str(version), version)
        for each in self.versions:
            if each.version == number:
                return each
        known = [*(str(each.version) for each in self.versions), *sorted(self.version_labels)]
        raise ArgumentError("version", f"must be one of {', '.join(known)}", version)
