"""`default.json`: the model that answers requests which name none."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from progan_service import formats
from progan_service.store.model_name import MODEL_NAME

FORMAT_VERSION = 1
MAX_DEFAULT_BYTES = 64 * 2**10  # of the file


@dataclass(frozen=True)
class DefaultChoice:
    """The decision of an operator about the models of a store.

    model     the model that answers requests which name none; "": nobody has decided
    unknown   keys that a newer release has written, kept as they are
    """

    model: str = ""
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def problem(self, models: Collection[str]) -> str:
        """Return why requests that name no model cannot be answered, as a sentence; empty when they can be.

        models   those of the store
        """
        if self.model and self.model not in models:
            return f"the default model, {self.model}, is not in the store; it holds: {listed(models)}"
        if not self.model and len(models) > 1:
            return f"there are several models and none is the default: {listed(models)}"
        return ""

    def to_json(self) -> str:
        """Return the content of the file. Raises FormatError when it is too large to be read again."""
        document = {**self.unknown, formats.VERSION_KEY: FORMAT_VERSION, "model": self.model}
        content = json.dumps(document, indent=2) + "\n"
        formats.check_size(content, MAX_DEFAULT_BYTES)
        return content

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return what a `default.json` holds. Raises FormatError."""
        document = formats.parse(content, FORMAT_VERSION)
        read = cls(**formats.field_values(cls, document), unknown=formats.unknown_values(cls, document))
        formats.require(bool(MODEL_NAME.fullmatch(read.model)), "model", read.model, "the name of a model")
        return read


def listed(models: Collection[str]) -> str:
    return ", ".join(sorted(models)) or "none"
