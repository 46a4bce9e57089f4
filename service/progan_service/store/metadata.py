"""TODO"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Self

from progan_service.store.digests import digest_of

METADATA_FILE = "progan.json"
FORMAT_VERSION = 1
FLOAT_SIGNATURE = "serving_default"
UINT8_SIGNATURE = "generate_uint8"
BFLOAT16_SIGNATURE = "generate_uint8_bfloat16"  # nearly the same images, by half-width arithmetic
ON_CPU = "_cpu"  # at the end of a signature: the same images, by the algorithms that CPUs are soonest with
DIFFERENTIABLE_SIGNATURE = "differentiable"


@dataclass(frozen=True)
class ModelMetadata:
    """What `progan.json` says of a version.

    latent_size, resolution, channels   sizes of inputs and images
    label_count, label_names            0 and none without labels
    provenance                          where the version came from and how it was trained
    golden                              seed -> PNG of the seed's image, relative to the version
    files                               SHA-256 of every other file, by relative path
    signatures                          of the SavedModel
    bfloat16_psnr_db                    how near BFLOAT16_SIGNATURE's golden images are to UINT8_SIGNATURE's; None
                                        without it
    algorithms                          of the signatures that end with ON_CPU, by layer
    """

    latent_size: int
    resolution: int
    channels: int
    label_count: int = 0
    label_names: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    golden: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    signatures: tuple[str, ...] = (FLOAT_SIGNATURE, UINT8_SIGNATURE, DIFFERENTIABLE_SIGNATURE)
    format_version: int = FORMAT_VERSION
    bfloat16_psnr_db: float | None = None
    algorithms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("latent_size", 1), ("resolution", 1), ("channels", 1), ("label_count", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}, not a whole number from {least} on")
        for name in ("provenance", "golden", "files", "algorithms"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} is {getattr(self, name)!r}, not an object of names and values")
        if not isinstance(self.bfloat16_psnr_db, int | float | None):
            raise ValueError(f"bfloat16_psnr_db is {self.bfloat16_psnr_db!r}, neither a number nor null")
        for file in (*self.files, *self.golden.values()):
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"{file!r} is not the name of a file within the version")

    @cached_property
    def digest(self) -> str:
        """Names the version's content: "sha256:" and the hash over the names and hashes of its files."""
        return f"sha256:{digest_of(self.files)}"

    @property
    def source(self) -> str:
        """Where the version comes from, in a line, as far as its provenance says so."""
        known = [self.provenance.get(name) for name in ("source", "origin")]
        line = " ".join(text for text in known if isinstance(text, str))
        shown = self.provenance.get("images_shown")
        if not isinstance(shown, int | float) or not 0 <= shown < 2**53:
            return line
        return f"{line}, {shown / 1000:.1f} kimg"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, TypeError or KeyError for anything `to_json` does not write."""
        document = json.loads(text)
        if document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version is {document['format_version']}, this release reads {FORMAT_VERSION}")
        document["label_names"] = tuple(document["label_names"])
        document["signatures"] = tuple(document["signatures"])
        return cls(**document)
