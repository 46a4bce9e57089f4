"""A trained generator, from a run, a weights file or another source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from progan_service.label_kind import LabelKind
from progan_service.model.networks import Generator


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator at one point of its growth.

    alpha         how far `resolution` has been blended in; 1 for a finished one
    label_names   one a label, or none when they are unknown
    label_kind    what the labels are
    provenance    plain JSON values: where it comes from; at least "source", and "license" where one is known
    unknown       keys that a newer release has written into its weights file, kept as they are
    """

    generator: Generator
    resolution: int
    alpha: float
    label_names: tuple[str, ...]
    provenance: dict[str, Any]
    unknown: Mapping[str, Any] = field(default_factory=dict)
    label_kind: LabelKind = "classes"
