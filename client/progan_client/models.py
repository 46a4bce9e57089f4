"""The models of a service and their versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from progan_client.errors import ArgumentError

ModelState = Literal["available", "loading", "ready", "failed", "draining", "unspecified"]
LabelKind = Literal["classes", "attributes"]


@dataclass(frozen=True)
class ServedModel:
    """The model version that made the images. `digest` is "sha256:" and 64 hexadecimal digits over its files."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Direction:
    """A direction of a version, along which `edits` move latents.

    `origin`    "fitted" (to scores of images) or "discovered" (one of those along which images change most).
    `r`         correlation of its scores with images that the fit did not see; 0 if discovered.
    `monotone`  share of latents whose score rises with each step from -3 to 3; 0 if unknown.
    `shift_sd`  by how many standard deviations of the score one unit moves it; 0 if discovered.
    """

    name: str
    origin: str
    r: float
    monotone: float
    shift_sd: float


@dataclass(frozen=True, repr=False)
class ModelVersion:
    """One version of a model.

    `state`         "available" (in the store), "loading", "ready" (serves calls), "failed" (`error` has the reason) or
                    "draining" (replaced, finishes its calls).
    `resolution`    images have resolution x resolution pixels.
    `channels`      1 (grey) or 3 (RGB).
    `label_count`   size of a label vector; 0: the model has no labels.
    `label_names`   label_count names; empty if unknown.
    `label_kind`    "classes" (an image has exactly one) or "attributes" (each holds or does not).
    `directions`    along which latents can be edited, by name; empty while the version is not loaded.
    `can_invert`    whether `invert` finds latents for it; a version of an earlier release must be exported again.
    `provenance`    origin and training of the version.
    `memory_bytes`  memory that it takes while it is loaded, its largest batch included; 0 if it is not loaded.
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
    memory_bytes: int = 0
    label_kind: LabelKind = "classes"
    directions: Mapping[str, Direction] = field(default_factory=dict)
    can_invert: bool = False

    def __repr__(self) -> str:
        return f"<ModelVersion {self.version}: {self.state}, {self.resolution}x{self.resolution}x{self.channels}>"

    @property
    def source(self) -> str:
        """The kind of source that the version was exported from, such as "tfhub"; empty if unknown."""
        return self._text("source")

    @property
    def origin(self) -> str:
        """The address or file name that the version was exported from; empty if unknown."""
        return self._text("origin")

    @property
    def license(self) -> str:
        """The name or text of the license; empty if unknown."""
        return self._text("license")

    def label_vector(self, *labels: str) -> NDArray[np.float32]:
        """Return the label vector float32 [label_count] of one class, or of the attributes that hold.

        Vectors can be mixed, and each image or key frame can have its own: `Client.generate(labels=...)`.
        Raise ArgumentError for a name that is not in `label_names`, and unless there is exactly one class.
        """
        for label in labels:
            if label not in self.label_names:
                known = ", ".join(self.label_names)
                raise ArgumentError("label", f"must be one of {known}" if known else "needs a model with labels", label)
        if self.label_kind == "classes" and len(labels) != 1:
            raise ArgumentError("labels", "must be one name: an image of this model has one class", labels)
        vector = np.zeros(self.label_count, np.float32)
        vector[[self.label_names.index(label) for label in labels]] = 1.0
        return vector

    def _text(self, name: str) -> str:
        value = self.provenance.get(name)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, repr=False)
class Model:
    """A model and its versions.

    `versions`         newest first.
    `is_default`       whether calls without a model name use this model.
    `serving_version`  the version for calls without a version; None if no version is ready.
    `pinned_version`   the version that the operator selected; None: the newest good version serves.
    `version_labels`   label -> version for calls with that label.
    `error`            error in the operator's selection of versions, or empty; the previous selection stays in force.
    """

    name: str
    versions: tuple[ModelVersion, ...]
    is_default: bool
    serving_version: int | None
    pinned_version: int | None
    version_labels: Mapping[str, int]
    error: str

    @property
    def directions(self) -> Mapping[str, Direction]:
        """The directions of the serving version, by name; empty if no version serves."""
        return {} if self.serving_version is None else self.version().directions

    def __repr__(self) -> str:
        numbers = ", ".join(str(each.version) for each in self.versions) or "none"
        return f"<Model {self.name}: versions {numbers}, serving {self.serving_version or 'none'}>"

    def version(self, version: int | str | None = None) -> ModelVersion:
        """Return the version with a number or label, for None the serving version. Raise ArgumentError if unknown."""
        if version is None and self.serving_version is None:
            raise ArgumentError("version", f"must be given: no version of model {self.name} is serving", version)
        number = self.serving_version if version is None else self.version_labels.get(str(version), version)
        for each in self.versions:
            if each.version == number:
                return each
        known = [*(str(each.version) for each in self.versions), *sorted(self.version_labels)]
        raise ArgumentError("version", f"must be one of {', '.join(known)}", version)
