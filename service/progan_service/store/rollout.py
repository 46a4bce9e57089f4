"""`rollout.json`: which version of a model serves, the labels of its versions, and which callers get a labelled one."""

import hashlib
import json
import re
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from progan_service import formats
from progan_service.store.errors import ModelStoreError

ROLLOUT_FILE = "rollout.json"
FORMAT_VERSION = 1
MAX_ROLLOUT_BYTES = 64 * 2**10  # of the file
MAX_VERSION = 10**18 - 1
RESERVED_LABELS = ("latest", "pinned", "serves")  # words for what a version is used for

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Rollout:
    """The decisions of an operator about the versions of a model.

    pinned    the version that answers requests which name none; 0: the newest good one
    labels    names for versions, such as "stable" and "canary", by which requests can ask for them
    shares    label -> percent of the callers whose requests without a version go to the version with this label
    unknown   keys that a newer release has written, kept as they are
    """

    pinned: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label in self.labels:
            if not _LABEL.fullmatch(label):
                raise ModelStoreError(
                    f"label is {reprlib.repr(label)}: must be 1 to 63 small letters, digits, dashes or underscores, "
                    "beginning with a letter"
                )
            if label in RESERVED_LABELS:
                raise ModelStoreError(f"label is {label!r}: must be none of {', '.join(RESERVED_LABELS)}")
        for what, version in (("pinned", self.pinned), *self.labels.items()):
            if not (0 if what == "pinned" else 1) <= version <= MAX_VERSION:
                raise ModelStoreError(f"{what} is {reprlib.repr(version)}: must be a version")
        for label, percent in self.shares.items():
            if label not in self.labels:
                raise ModelStoreError(f"label {reprlib.repr(label)} has a share of the callers, and no version")
            if not 1 <= percent <= 100:
                raise ModelStoreError(f"share of {label!r} is {reprlib.repr(percent)}: must be 1 to 100 percent")
        if (total := sum(self.shares.values())) > 100:
            raise ModelStoreError(f"shares are {total} percent in all: must be at most 100")

    @property
    def versions(self) -> set[int]:
        """The versions that it names."""
        return {self.pinned, *self.labels.values()} - {0}

    def without(self, label: str) -> Self:
        """Return these decisions without a label and its share."""
        labels, shares = (
            {one: of for one, of in named.items() if one != label} for named in (self.labels, self.shares)
        )
        return replace(self, labels=labels, shares=shares)

    def label_for(self, caller: str) -> str:
        """Return the label whose share a caller belongs to; empty for a caller who gets what serves.

        A caller gets the same on every server and at every time. A larger share keeps the callers of a smaller one.
        """
        if not self.shares:
            return ""
        place = int.from_bytes(hashlib.sha256(caller.encode()).digest()[:8]) % 100
        for label, percent in sorted(self.shares.items()):
            if place < percent:
                return label
            place -= percent
        return ""

    def problem(self, versions: Collection[int]) -> str:
        """Return which of the named versions are not among those of the store, as a sentence; empty when all are."""
        named = [(f"version {self.pinned} is pinned", self.pinned)] if self.pinned else []
        named += [(f"label {label!r} is version {version}", version) for label, version in self.labels.items()]
        gone = [what for what, version in named if version not in versions]
        return f"{' and '.join(gone)}, and not in the store" if gone else ""

    def to_json(self) -> str:
        """Return the content of the file. Raises FormatError when it is too large to be read again."""
        document = {**self.unknown, formats.VERSION_KEY: FORMAT_VERSION, "pinned": self.pinned, "labels": self.labels}
        if self.shares:
            document["shares"] = self.shares
        content = json.dumps(document, indent=2) + "\n"
        formats.check_size(content, MAX_ROLLOUT_BYTES)
        return content

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return what a `rollout.json` holds. Raises FormatError, or ModelStoreError for a value against its rule."""
        document = formats.parse(content, FORMAT_VERSION)
        return cls(**formats.field_values(cls, document), unknown=formats.unknown_values(cls, document))
