"""`progan.json`: the description of a version, written once when the version is published."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Self

from progan_service import formats
from progan_service.license import tidy
from progan_service.store.digests import digest_of

METADATA_FILE = "progan.json"
FORMAT_VERSION = 1
FLOAT_SIGNATURE = "serving_default"
UINT8_SIGNATURE = "generate_uint8"
BFLOAT16_SIGNATURE = "generate_uint8_bfloat16"  # nearly the same images, by half-width arithmetic
ON_CPU = "_cpu"  # at the end of a signature: the same images, by the algorithms that are fastest on CPUs
DIFFERENTIABLE_SIGNATURE = "differentiable"


@dataclass(frozen=True)
class ModelMetadata:
    """The content of `progan.json`.

    latent_size, resolution, channels   sizes of inputs and images
    label_count, label_names            0 and none without labels
    provenance                          where the version came from and how it was trained
    golden                              seed -> PNG of the seed's image, relative to the version
    files                               SHA-256 of every other file, by relative path
    signatures                          names of the signatures of the SavedModel
    bfloat16_psnr_db                    PSNR of BFLOAT16_SIGNATURE's golden images to those of UINT8_SIGNATURE; None
                                        without that signature
    algorithms                          by signature that ends with ON_CPU: the algorithm of each layer
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
            if value < least:
                raise ValueError(f"{name} is {value!r}: must be a whole number from {least} on")
        for file in (*self.files, *self.golden.values()):
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"{file!r} is not the name of a file within the version")

    @cached_property
    def digest(self) -> str:
        """The name of the version's content: "sha256:" and the hash over the names and hashes of its files."""
        return f"sha256:{digest_of(self.files)}"

    @property
    def source(self) -> str:
        """Where the version comes from, in one line; empty when the provenance does not say."""
        known = [self.provenance.get(name) for name in ("source", "origin")]
        line = " ".join(text for text in known if isinstance(text, str))
        shown = self.provenance.get("images_shown")
        if not isinstance(shown, int | float) or not 0 <= shown < 2**53:
            return line
        return f"{line}, {shown / 1000:.1f} kimg"

    @property
    def license(self) -> str:
        """The licence that the provenance names, at most 64 KiB of text; empty when it names none.

        Versions of earlier releases have it as "licence" of the dataset.
        """
        dataset = self.provenance.get("dataset")
        earlier = dataset.get("licence") if isinstance(dataset, Mapping) else None
        found = self.provenance.get("license") or earlier
        return tidy(found) if isinstance(found, str) else ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return what a `progan.json` holds; keys of newer releases are ignored.

        Raises FormatError, or ValueError for a value against its rule.
        """
        return cls(**formats.field_values(cls, formats.parse(content, FORMAT_VERSION)))
