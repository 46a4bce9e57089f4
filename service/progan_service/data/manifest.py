"""`dataset.json`: where a dataset came from. Optional beside the records; NVIDIA's tools write none."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from progan_service.data.errors import DatasetError

FILE_NAME = "dataset.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """The provenance of a dataset."""

    source: str  # what it was made of: a file's name, or "drawn"
    image_count: int
    resolution: int
    channels: int = 3
    fit: str | None = None  # how images became square: "crop" or "pad"; None where they were drawn square
    label: str | None = None  # what the labels tell, such as "glasses"
    label_names: tuple[str, ...] = ()  # one per column of the label file
    license_text: str | None = None  # the LICENSE file found in the source
    format_version: int = FORMAT_VERSION

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """The manifest of a dataset directory, None where there is none; fields it does not know are left out.

        Raises:
            DatasetError: the file is no JSON object with the needed fields, or of a newer format version.
        """
        path = directory / FILE_NAME
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            version = int(stored.get("format_version", FORMAT_VERSION))
            known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
            manifest = cls(**{**known, "label_names": tuple(map(str, known.get("label_names", ())))})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DatasetError(f"{path}: cannot be read as a dataset's provenance: {error}") from None
        if version > FORMAT_VERSION:
            raise DatasetError(
                f"{path}: format version {version} is newer than {FORMAT_VERSION}, the newest this version reads"
            )
        return manifest

    def write(self, directory: Path) -> None:
        """Store it as `dataset.json` in `directory`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (directory / FILE_NAME).write_text(text + "\n", encoding="utf-8")
