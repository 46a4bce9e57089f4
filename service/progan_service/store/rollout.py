"""TODO"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from progan_service.store.errors import ModelStoreError

ROLLOUT_FILE = "rollout.json"
RESERVED_LABELS = ("latest", "pinned", "serves")  # words for what a version is used for

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Rollout:
    """What an operator decided about the versions of a model.

    pinned    the version that answers requests which name none; 0: the newest good one
    labels    names for versions, "stable" and "canary" say, by which requests can ask for them
    """

    pinned: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.labels, Mapping):
            raise ModelStoreError(f"labels is {self.labels!r}: must be an object of names and versions")
        for label in self.labels:
            if not _LABEL.fullmatch(label):
                raise ModelStoreError(
                    f"label is {label!r}: must be 1 to 63 small letters, digits, dashes or underscores, "
                    "beginning with a letter"
                )
            if label in RESERVED_LABELS:
                raise ModelStoreError(f"label is {label!r}: must be none of {', '.join(RESERVED_LABELS)}")
        for what, version in (("pinned", self.pinned), *self.labels.items()):
            if type(version) is not int or version < (0 if what == "pinned" else 1):
                raise ModelStoreError(f"{what} is {version!r}: must be a version")

    @property
    def versions(self) -> set[int]:
        """Those it speaks of."""
        return {self.pinned, *self.labels.values()} - {0}

    def problem(self, versions: Collection[int]) -> str:
        """What it speaks of that is not among the versions of the store; empty when all is there."""
        named = [(f"version {self.pinned} is pinned", self.pinned)] if self.pinned else []
        named += [(f"label {label!r} is version {version}", version) for label, version in self.labels.items()]
        gone = [what for what, version in named if version not in versions]
        return f"{' and '.join(gone)}, and not in the store" if gone else ""
