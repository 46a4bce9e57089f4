"""`dataset.json`: where a dataset came from. Optional beside the records; NVIDIA's tools write none."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from progan_service import formats
from progan_service.data.errors import DatasetError
from progan_service.host.faults import named
from progan_service.host.files import replaced
from progan_service.label_kind import LabelKind
from progan_service.license import tidy

FILE_NAME = "dataset.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """The provenance of a dataset. `unknown` has the keys that a newer release has written, kept as they are."""

    source: str  # what it was made of: a file's name, or "drawn"
    image_count: int
    resolution: int
    channels: int = 3
    fit: str | None = None  # how images became square: "crop" or "pad"; None where they were drawn square
    small: str | None = None  # what became of smaller ones: "refuse", "pad" or "enlarge"
    background: str | None = None  # the colour of borders and behind transparent pixels: "white" or "black"
    label: str | None = None  # the meaning of the labels, such as "glasses"
    label_names: tuple[str, ...] = ()  # one per column of the label file
    label_kind: LabelKind = "classes"
    license_text: str | None = None  # of the licence file found in the source, at most 64 KiB
    format_version: int = FORMAT_VERSION
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Return the manifest of a dataset directory, None where there is none; keys of newer releases are kept.

        Raises:
            DatasetError: the file is no JSON object with the needed fields, or of a newer format version.
        """
        path = directory / FILE_NAME
        if not path.exists():
            return None
        with named(path):
            text = path.read_bytes()
        try:
            document = formats.parse(text, FORMAT_VERSION)
            manifest = cls(**formats.field_values(cls, document), unknown=formats.unknown_values(cls, document))
        except formats.NewerFormatError as error:
            raise DatasetError(f"{path}: {error}") from None
        except ValueError as error:
            raise DatasetError(f"{path}: cannot be read as a dataset's provenance: {error}") from None
        return replace(manifest, license_text=manifest.license_text and tidy(manifest.license_text))

    def write(self, directory: Path) -> None:
        """Store it as `dataset.json` in `directory`, in place of an earlier one."""
        known = asdict(self)
        text = json.dumps({**known.pop(formats.UNKNOWN), **known}, indent=2, ensure_ascii=False)
        with replaced(directory / FILE_NAME) as partial:
            partial.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
